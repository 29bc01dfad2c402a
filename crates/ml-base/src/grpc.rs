//! The gRPC door: `sutra.inference.v1.Inference`.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    checksum::inference::{Asked, of_info},
    error::{ApiError, ErrorCode},
    inference::{
        ElementType, EmbedItem, EmbedRequest, EmbedResponse, InfoRequest, InfoResponse, ItemResult,
        ItemStatus, Load, StageTimes, Truncation, embed_item, inference_server::Inference,
    },
};
use service::deadline::Deadline;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    item::{Embedded, Input, Item, ItemFailure},
    pipeline::Answer,
    serving::{Described, Serving, count},
};

/// The service; answers once the default model is loaded.
#[derive(Debug, Clone)]
pub struct Grpc {
    serving: Serving,
}

impl Grpc {
    /// A door to the models of `serving`.
    pub fn new(serving: Serving) -> Self {
        Self { serving }
    }
}

#[tonic::async_trait]
impl Inference for Grpc {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let replica = self.serving.replica()?;
        let deadline = request.extensions().get::<Deadline>().copied();
        let EmbedRequest { model, expected_identity, items } = request.into_inner();
        let model = replica.find(&model)?;
        check_identity(&model.described, &expected_identity)?;
        let deadline =
            deadline.map_or_else(|| Instant::now() + replica.limits.request_timeout, |deadline| deadline.0);
        check_count(items.len(), replica.limits.call_texts_max)?;
        let asked = items.iter().map(Asked::of).collect();
        let items = items.into_iter().map(|item| read_item(item, deadline)).collect::<Result<_, _>>()?;
        let lease = model.lease(deadline).await?;
        let answer = lease.pipeline().embed(items).await?;
        Ok(Response::new(write_answer(&model.described, asked, answer)))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let replica = self.serving.replica()?;
        let load = replica.load();
        let mut info = InfoResponse {
            models: replica.models().iter().map(|model| model.message()).collect(),
            limits: Some(replica.limits_message()),
            instance_id: replica.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: "cpu".to_owned(),
            load: Some(Load { queued_items: count(load.texts), queued_tokens: count(load.tokens) }),
            checksum: 0,
        };
        info.checksum = of_info(&info);
        Ok(Response::new(info))
    }
}

fn check_identity(model: &Described, expected: &str) -> Result<(), ApiError> {
    let served = &model.identity;
    if expected.is_empty() || expected == served.as_str() {
        return Ok(());
    }
    let message = format!("`expected_identity` is {expected}, this replica serves {served}");
    Err(ApiError::new(ErrorCode::IdentityMismatch, message).at_field("expected_identity"))
}

fn check_count(items: usize, items_max: usize) -> Result<(), ApiError> {
    if items == 0 {
        return Err(
            ApiError::new(ErrorCode::Malformed, "`items` is empty: send at least one").at_field("items")
        );
    }
    if items > items_max {
        let message = format!("`items` holds {items}, the limit is {items_max} a call");
        return Err(ApiError::new(ErrorCode::TooLarge, message).at_field("items"));
    }
    Ok(())
}

/// An unknown truncation is refused by name: a newer client must not get what it did not ask for.
fn read_item(item: EmbedItem, call_deadline: Instant) -> Result<Item, ApiError> {
    let truncation = Truncation::try_from(item.truncation).map_err(|_| {
        let message = format!("`truncation` is {}, which this replica does not know", item.truncation);
        ApiError::new(ErrorCode::Malformed, message).at_field("truncation")
    })?;
    let deadline = match item.timeout_ms {
        0 => call_deadline,
        timeout_ms => call_deadline.min(Instant::now() + Duration::from_millis(u64::from(timeout_ms))),
    };
    let input = match item.input {
        Some(embed_item::Input::Text(text)) => Input::Text { prompt: item.prompt, text },
        Some(embed_item::Input::TokenIds(ids)) => Input::TokenIds(ids.ids),
        // Fails this item alone, as an empty text does.
        None => Input::Text { prompt: String::new(), text: String::new() },
    };
    Ok(Item { input, truncation, deadline })
}

/// `asked` are the items as they came, one for each of the answer's.
fn write_answer(model: &Described, asked: Vec<Asked>, answer: Answer) -> EmbedResponse {
    let times = StageTimes {
        tokenization_us: microseconds(answer.tokenization_time),
        queue_us: microseconds(answer.queue_time()),
        inference_us: microseconds(answer.inference_time()),
    };
    let mut response = EmbedResponse {
        width: count(model.width()),
        element_type: ElementType::Float32.into(),
        vectors: Bytes::new(),
        results: Vec::with_capacity(answer.items.len()),
        identity: model.identity.clone(),
        precision_class: model.precision.into(),
        times: Some(times),
    };
    let mut vectors = Vec::with_capacity(answer.items.len() * model.width() * size_of::<f32>());
    for (asked, item) in asked.into_iter().zip(answer.items) {
        let start = vectors.len();
        let mut result = write_item(item, &mut vectors);
        result.checksum = asked.answered(&response, &result, &vectors[start..]);
        response.results.push(result);
    }
    response.vectors = vectors.into();
    response
}

/// What is said of an item, its checksum aside; its vector is appended to `vectors`.
fn write_item(item: Result<Embedded, ItemFailure>, vectors: &mut Vec<u8>) -> ItemResult {
    match item {
        Ok(embedded) => {
            vector::codec::extend_float32(vectors, &embedded.computed.vector);
            ItemResult {
                status: ItemStatus::Ok.into(),
                message: String::new(),
                tokens: count(embedded.tokens),
                truncated: embedded.truncated,
                checksum: 0,
            }
        }
        Err(ItemFailure { status, message }) => {
            ItemResult { status: status.into(), message, ..ItemResult::default() }
        }
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

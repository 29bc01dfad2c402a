//! The gRPC client of ml-base, and the check of its answers.
//!
//! Invariant: an answer that contradicts itself, or what ml-base said of its model, gives an error and never a vector;
//! so does one whose checksum is not that of what was asked and what came.

use std::{error::Error, time::Duration};

use axum::http::Uri;
use protocol::{
    checksum::inference::Asked,
    inference::{
        ElementType, EmbedItem, EmbedRequest, EmbedResponse, InfoRequest, InfoResponse, ItemResult,
        ItemStatus, PrecisionClass, inference_client::InferenceClient,
    },
};
use service::channel::connect_lazy;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    lookup::l1::CachedVector,
    lookup::single_flight::StageTimes,
    miss::MissError,
    precision::{self, Classes},
    served::Model,
};

const INFO_TIMEOUT: Duration = Duration::from_secs(3);
/// What an answer may hold beside its vectors: for each item, and for the whole.
const ITEM_SLACK_BYTES: usize = 1024;
const ANSWER_SLACK_BYTES: usize = 64 * 1024;

/// What became of one item.
pub(crate) type ItemOutcome = Result<CachedVector, MissError>;

/// A checked answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// One for each item, in their order.
    pub(crate) items: Vec<ItemOutcome>,
    /// Time of the slowest item in each stage.
    pub(crate) times: StageTimes,
}

impl Answer {
    /// True where the checksum of an item is not that of what was asked and what came.
    pub(crate) fn is_garbled(&self) -> bool {
        self.items.contains(&Err(MissError::Garbled))
    }

    fn complain(&self, model: &Model) {
        if self.is_garbled() {
            let error = MissError::Garbled;
            tracing::error!(model = model.id, %error, "vectors of ml-base were thrown away");
        }
    }
}

/// A client; clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct MlBase {
    client: InferenceClient<Channel>,
    classes: Classes,
}

impl MlBase {
    /// A client that connects when it is first used, and takes vectors of these classes. Needs a runtime.
    ///
    /// # Errors
    /// If `url` is none that can be connected to.
    pub(crate) fn new(url: &Uri, classes: Classes) -> Result<Self, tonic::transport::Error> {
        Ok(Self { client: InferenceClient::new(connect_lazy(url)?), classes })
    }

    /// What ml-base serves.
    ///
    /// # Errors
    /// The status it refuses with, or that of a failed connection.
    pub(crate) async fn info(&self) -> Result<InfoResponse, Status> {
        let mut request = Request::new(InfoRequest {});
        request.set_timeout(INFO_TIMEOUT);
        Ok(self.client.clone().info(request).await?.into_inner())
    }

    /// Computes `items` with `model`. Dropping the future cancels the call.
    ///
    /// # Errors
    /// If the call failed as a whole.
    pub(crate) async fn embed(
        &self,
        model: &Model,
        items: Vec<EmbedItem>,
        deadline: Instant,
    ) -> Result<Answer, MissError> {
        let asked: Vec<_> = items.iter().map(Asked::of).collect();
        let answer_bytes_max =
            items.len() * (model.width as usize * size_of::<f32>() + ITEM_SLACK_BYTES) + ANSWER_SLACK_BYTES;
        let mut client = self.client.clone().max_decoding_message_size(answer_bytes_max);
        let mut request = Request::new(EmbedRequest {
            model: model.id.clone(),
            expected_identity: model.identity.clone(),
            items,
        });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let answer = timeout_at(deadline, client.embed(request)).await;
        match answer {
            Ok(Ok(response)) => read_answer(response.into_inner(), model, &self.classes, asked)
                .inspect(|answer| answer.complain(model))
                .inspect_err(|error| {
                    tracing::error!(model = model.id, %error, "an answer of ml-base was thrown away");
                }),
            // The client's own timer may be a moment faster than ours, and calls that "cancelled".
            Ok(Err(_)) if Instant::now() >= deadline => Err(MissError::DeadlineExceeded),
            Ok(Err(status)) => Err(read_status(&status)),
            Err(_) => Err(MissError::DeadlineExceeded),
        }
    }
}

fn read_status(status: &Status) -> MissError {
    tracing::debug!(code = ?status.code(), message = status.message(), "a call to ml-base failed");
    let unavailable = || MissError::Unavailable("ml-base cannot be reached or is not ready".to_owned());
    match status.code() {
        Code::ResourceExhausted => MissError::Overloaded("ml-base has no capacity free".to_owned()),
        Code::DeadlineExceeded => MissError::DeadlineExceeded,
        // A model that is gone was replaced, as one of another identity was.
        Code::FailedPrecondition | Code::NotFound => MissError::IdentityMismatch,
        // How a connection that breaks shows itself. We never see a call of ours that we cancelled.
        Code::Unavailable | Code::Unknown | Code::Cancelled => unavailable(),
        Code::Internal if status.source().is_some() => unavailable(),
        // A message that cannot be read is called so by our own side.
        Code::Internal | Code::DataLoss => {
            MissError::Broken(format!("{} ({:?})", status.message(), status.code()))
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => MissError::Wrong(format!("{} ({:?})", status.message(), status.code())),
    }
}

/// Checks an answer to the items that were `asked` against `model` and takes it apart.
fn read_answer(
    response: EmbedResponse,
    model: &Model,
    classes: &Classes,
    asked: Vec<Asked>,
) -> Result<Answer, MissError> {
    let rows = rows(&response, model.width as usize, asked.len())?;
    let whole: Vec<_> = asked
        .into_iter()
        .zip(response.results.iter().zip(&rows))
        .map(|(asked, (result, row))| asked.answered(&response, result, row) == result.checksum)
        .collect();
    // What was changed on its way says nothing of ml-base.
    if whole.contains(&true) {
        check_head(&response, model, classes)?;
    }
    let class = response.precision_class();
    let items = response.results.iter().zip(rows).zip(whole);
    let items = items.map(|((result, row), is_whole)| match is_whole {
        true => read_item(result, row, class),
        false => Err(MissError::Garbled),
    });
    let times = response.times.unwrap_or_default();
    Ok(Answer {
        items: items.collect(),
        times: StageTimes {
            l2: Duration::ZERO,
            tokenization: Duration::from_micros(times.tokenization_us),
            queue: Duration::from_micros(times.queue_us),
            inference: Duration::from_micros(times.inference_us),
        },
    })
}

/// The bytes of each item's vector of `width` numbers; none where it has no vector.
fn rows(response: &EmbedResponse, width: usize, count: usize) -> Result<Vec<&[u8]>, MissError> {
    require(response.results.len() == count, || {
        format!("{} results for {count} items", response.results.len())
    })?;
    let computed = response.results.iter().filter(|result| result.status() == ItemStatus::Ok).count();
    let expected_bytes = computed * width * size_of::<f32>();
    require(response.vectors.len() == expected_bytes, || {
        format!("{} bytes of vectors instead of {expected_bytes}", response.vectors.len())
    })?;
    let mut rows = response.vectors.chunks_exact(width * size_of::<f32>());
    let row = |result: &ItemResult| match result.status() == ItemStatus::Ok {
        // There is a row for each: the bytes were counted above.
        true => rows.next().unwrap_or_default(),
        false => Default::default(),
    };
    Ok(response.results.iter().map(row).collect())
}

fn check_head(response: &EmbedResponse, model: &Model, classes: &Classes) -> Result<(), MissError> {
    require(response.identity == model.identity, || {
        format!("a vector of identity `{}` instead of `{}`", response.identity, model.identity)
    })?;
    require(response.width == model.width, || {
        format!("width {} instead of {}", response.width, model.width)
    })?;
    require(response.element_type() == ElementType::Float32, || {
        format!("numbers of {}", response.element_type().as_str_name())
    })?;
    require(classes.take(response.precision_class()), || {
        format!("precision {}", response.precision_class().as_str_name())
    })
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), MissError> {
    if holds { Ok(()) } else { Err(MissError::Broken(otherwise())) }
}

fn read_item(result: &ItemResult, row: &[u8], class: PrecisionClass) -> ItemOutcome {
    if result.status() != ItemStatus::Ok {
        return Err(item_error(result.status(), &result.message));
    }
    let pooled = vector::codec::read_float32(row).map_err(|error| MissError::Broken(error.to_string()))?;
    let mut pooled: Box<[f32]> = pooled.into();
    precision::to_kept_form(class, &mut pooled);
    if !pooled.iter().all(|number| number.is_finite()) {
        return Err(MissError::NotFinite);
    }
    Ok(CachedVector { pooled, tokens: result.tokens, truncated: result.truncated, class })
}

fn item_error(status: ItemStatus, message: &str) -> MissError {
    match status {
        ItemStatus::Invalid => MissError::NotAText(message.to_owned()),
        ItemStatus::TooLong => MissError::TooLong(message.to_owned()),
        ItemStatus::NotFinite => MissError::NotFinite,
        ItemStatus::DeadlineExceeded => MissError::DeadlineExceeded,
        ItemStatus::Internal => MissError::Worker(message.to_owned()),
        ItemStatus::Ok | ItemStatus::Unspecified => {
            MissError::Broken(format!("an item of status {}", status.as_str_name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::inference::embed_item::Input;

    use super::*;
    use crate::served::tests::model;

    fn item() -> EmbedItem {
        EmbedItem { input: Some(Input::Text("text".to_owned())), ..EmbedItem::default() }
    }

    /// With the checksums of this answer to items that are all the same.
    fn summed(response: EmbedResponse) -> EmbedResponse {
        let Ok(rows) = rows(&response, 2, response.results.len()) else { return response };
        let sum = |(result, row): (&ItemResult, &[u8])| Asked::of(&item()).answered(&response, result, row);
        let checksums: Vec<_> = response.results.iter().zip(rows).map(sum).collect();
        let results = response.results.iter().cloned().zip(checksums);
        let results = results.map(|(result, checksum)| ItemResult { checksum, ..result }).collect();
        EmbedResponse { results, ..response }
    }

    fn read(response: EmbedResponse, count: usize) -> Result<Answer, MissError> {
        read_as_it_came(summed(response), &vec![item(); count])
    }

    fn read_as_it_came(response: EmbedResponse, asked: &[EmbedItem]) -> Result<Answer, MissError> {
        let classes = Classes::new([PrecisionClass::Float32, PrecisionClass::Bfloat16]);
        read_answer(response, &model(), &classes, asked.iter().map(Asked::of).collect())
    }

    fn result(status: ItemStatus) -> ItemResult {
        ItemResult { status: status.into(), message: "why".to_owned(), tokens: 3, ..ItemResult::default() }
    }

    fn response(results: Vec<ItemResult>, numbers: &[f32]) -> EmbedResponse {
        let mut vectors = Vec::new();
        vector::codec::extend_float32(&mut vectors, numbers);
        EmbedResponse {
            width: 2,
            element_type: ElementType::Float32.into(),
            vectors: vectors.into(),
            results,
            identity: "ab".repeat(32),
            precision_class: PrecisionClass::Float32.into(),
            times: None,
        }
    }

    #[test]
    fn vectors_go_to_the_items_that_have_one() {
        let results = [ItemStatus::Ok, ItemStatus::TooLong, ItemStatus::Ok].map(result).to_vec();
        let answer = read(response(results, &[1.0, 2.0, 3.0, 4.0]), 3).unwrap();
        assert_eq!(*answer.items[0].as_ref().unwrap().pooled, [1.0, 2.0]);
        assert_eq!(answer.items[1], Err(MissError::TooLong("why".to_owned())));
        assert_eq!(*answer.items[2].as_ref().unwrap().pooled, [3.0, 4.0]);
    }

    #[test]
    fn a_vector_that_is_not_finite_fails_alone() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let results = [ItemStatus::Ok, ItemStatus::Ok].map(result).to_vec();
            let answer = read(response(results, &[1.0, bad, 3.0, 4.0]), 2).unwrap();
            assert_eq!(answer.items[0], Err(MissError::NotFinite));
            assert!(answer.items[1].is_ok());
        }
    }

    #[test]
    fn a_lower_class_is_seen_in_the_form_it_is_kept_in() {
        let answer = response(vec![result(ItemStatus::Ok)], &[0.1, 65_000.0]);
        let answer = EmbedResponse { precision_class: PrecisionClass::Bfloat16.into(), ..answer };
        let vector = read(answer, 1).unwrap().items.remove(0).unwrap();
        assert_eq!(
            (&*vector.pooled, vector.class),
            (&[0.099_975_586, 64_992.0][..], PrecisionClass::Bfloat16)
        );
        // What float16 cannot hold is no vector.
        let answer = response(vec![result(ItemStatus::Ok)], &[0.1, 70_000.0]);
        let answer = EmbedResponse { precision_class: PrecisionClass::Bfloat16.into(), ..answer };
        assert_eq!(read(answer, 1).unwrap().items[0], Err(MissError::NotFinite));
    }

    #[test]
    fn an_answer_that_cannot_be_true_gives_no_vector() {
        let good = || response(vec![result(ItemStatus::Ok)], &[1.0, 2.0]);
        assert!(read(good(), 1).is_ok());
        let lies = [
            EmbedResponse { identity: "cd".repeat(32), ..good() },
            EmbedResponse { width: 4, ..good() },
            EmbedResponse { element_type: ElementType::Float16.into(), ..good() },
            EmbedResponse { precision_class: PrecisionClass::Int8.into(), ..good() },
            EmbedResponse { results: Vec::new(), ..good() },
            EmbedResponse { results: [ItemStatus::Ok, ItemStatus::Ok].map(result).to_vec(), ..good() },
            EmbedResponse { vectors: Bytes::from_static(&[0; 4]), ..good() },
            EmbedResponse { vectors: Bytes::from_static(&[0; 9]), ..good() },
        ];
        for lie in lies {
            assert!(matches!(read(lie.clone(), 1), Err(MissError::Broken(_))), "{lie:?}");
        }
    }

    #[test]
    fn what_was_changed_on_its_way_is_no_vector_and_its_neighbours_are() {
        let good = || summed(response([ItemStatus::Ok, ItemStatus::Ok].map(result).to_vec(), &[1.0; 4]));
        let failures = |response, asked: [EmbedItem; 2]| {
            let items = read_as_it_came(response, &asked).unwrap().items;
            items.into_iter().map(Result::err).collect::<Vec<_>>()
        };
        assert_eq!(failures(good(), [item(), item()]), [None, None]);
        let other = EmbedItem { input: Some(Input::Text("texT".to_owned())), ..item() };
        assert_eq!(failures(good(), [item(), other]), [None, Some(MissError::Garbled)]);
        let mut changed = good();
        let mut vectors = changed.vectors.to_vec();
        vectors[3] ^= 1;
        changed.vectors = vectors.into();
        assert_eq!(failures(changed, [item(), item()]), [Some(MissError::Garbled), None]);
        let mut without = good();
        without.results[1].checksum = 0;
        assert_eq!(failures(without, [item(), item()]), [None, Some(MissError::Garbled)]);
        // What is said of all items at once is then no lie of ml-base.
        let of_another = EmbedResponse { identity: "ad".repeat(32), ..good() };
        assert_eq!(failures(of_another, [item(), item()]), [const { Some(MissError::Garbled) }; 2]);
    }

    #[test]
    fn an_unknown_status_of_an_item_is_wrong_for_it_alone() {
        let unknown = ItemResult { status: 99, ..result(ItemStatus::Ok) };
        let answer = read(response(vec![unknown, result(ItemStatus::Ok)], &[1.0, 2.0]), 2);
        let items = answer.unwrap().items;
        assert!(matches!(items[0], Err(MissError::Broken(_))) && items[1].is_ok());
    }

    #[test]
    fn statuses_are_read_as_what_they_mean_for_a_retry() {
        let read = |code| read_status(&Status::new(code, "message"));
        let may_help =
            [Code::Unavailable, Code::ResourceExhausted, Code::Unknown, Code::Cancelled, Code::Internal];
        for code in may_help {
            assert!(read(code).is_retryable(), "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::DeadlineExceeded, Code::FailedPrecondition] {
            assert!(!read(code).is_retryable(), "{code:?}");
        }
        assert_eq!(read(Code::FailedPrecondition), MissError::IdentityMismatch);
    }
}

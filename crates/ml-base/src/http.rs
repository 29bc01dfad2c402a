//! The HTTP door: `POST /embed` in both shapes, `GET /info`.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Request, Response},
    response::IntoResponse,
    routing::{get, post},
};
use protocol::{
    embed_json::{self, EmbedCall, Shape, TextLimits, TextsAnswer, UntrainedDimensions},
    error::{ApiError, ErrorCode},
};
use service::{
    body::BodyLimits,
    deadline::Deadline,
    refusal::{self, Speaks},
};
use tokio::time::Instant;
use vector::{Finish, Normalization, Widths};

use crate::{
    item::{Input, Item},
    pipeline::Answer,
    serving::{Described, Replica, Served, Serving},
};

/// Answers with more texts than this are written by a thread that may take its time.
const TEXTS_WRITTEN_INLINE_MAX: usize = 32;

#[derive(Debug, Clone)]
struct Door {
    serving: Serving,
    bodies: BodyLimits,
}

/// The routes that do work.
pub fn work(serving: Serving, bodies: BodyLimits) -> Router {
    Router::new().route("/embed", post(embed)).with_state(Door { serving, bodies })
}

/// `GET /info`, which works while the model still loads.
pub fn info(serving: Serving) -> Router {
    Router::new().route("/info", get(answer_info)).with_state(serving)
}

async fn embed(State(door): State<Door>, request: Request<Body>) -> Response<Body> {
    match answer_embed(&door, request).await {
        Ok(response) => response,
        Err(error) => refusal::respond(&error, Speaks::Http),
    }
}

async fn answer_embed(door: &Door, request: Request<Body>) -> Result<Response<Body>, ApiError> {
    let start = Instant::now();
    let replica = door.serving.replica()?;
    let deadline = request.extensions().get::<Deadline>().copied();
    let deadline = deadline.map_or_else(|| start + replica.limits.request_timeout, |deadline| deadline.0);
    let body = door.bodies.read_json(request).await?;
    let call = embed_json::parse(body.as_ref(), &text_limits(replica))?;
    drop(body);
    let model = replica.find(call.model.as_deref().unwrap_or_default())?.clone();
    let finish = finish(&model.described, &call)?;
    let prompt = model.described.files.prompts.find(call.prompt_name.as_deref())?.to_owned();
    let (shape, count) = (call.shape, call.texts.len());
    let lease = model.lease(deadline).await?;
    let answer = lease.pipeline().embed(items(call, &prompt, deadline)).await?;
    drop(lease);
    let times = StageTimes::of(&answer);
    let rows = rows(answer, shape, &finish)?;
    let edition = replica.limits.edition.name();
    let write = move || write_body(&model, edition, shape, &rows, finish.dimensions(), start);
    let body = match count > TEXTS_WRITTEN_INLINE_MAX {
        true => tokio::task::spawn_blocking(write).await.map_err(|error| internal(&error))?,
        false => write(),
    }?;
    let mut response = ([(axum::http::header::CONTENT_TYPE, "application/json")], body).into_response();
    times.write(response.headers_mut(), start.elapsed());
    Ok(response)
}

fn text_limits(replica: &Replica) -> TextLimits {
    TextLimits {
        texts_max: replica.limits.call_texts_max,
        text_bytes_max: replica.limits.text_bytes_max,
        edition: replica.limits.edition.name(),
        untrained_dimensions: match replica.limits.forbid_untrained_dimensions {
            true => UntrainedDimensions::Forbidden,
            false => UntrainedDimensions::OnRequest,
        },
    }
}

fn finish(model: &Described, call: &EmbedCall) -> Result<Finish, ApiError> {
    let normalization = if call.normalize { Normalization::Unit } else { Normalization::Raw };
    let widths = if call.allow_untrained_dimensions { Widths::Any } else { Widths::Trained };
    model
        .finish(call.dimensions, widths, normalization)
        .map_err(|error| ApiError::new(ErrorCode::Invalid, error.to_string()).at_field("dimensions"))
}

fn items(call: EmbedCall, prompt: &str, deadline: Instant) -> Vec<Item> {
    let truncation = call.truncation;
    let input = |text| Input::Text { prompt: prompt.to_owned(), text };
    call.texts.into_iter().map(|text| Item { input: input(text), truncation, deadline }).collect()
}

/// A request over HTTP has no place for a text that failed, so the first one fails it, by its index.
fn rows(answer: Answer, shape: Shape, finish: &Finish) -> Result<Vec<Vec<f32>>, ApiError> {
    let rows = answer.items.into_iter().enumerate().map(|(index, item)| match item {
        Ok(embedded) => Ok(finish.apply(&embedded.computed.vector)),
        Err(failure) => {
            let message = format!("{}[{index}]: {}", shape.list(), failure.message);
            Err(ApiError::new(failure.code(), message).at_text(shape.list(), index))
        }
    });
    rows.collect()
}

fn write_body(
    model: &Served,
    edition: &str,
    shape: Shape,
    rows: &[Vec<f32>],
    dimension: usize,
    start: Instant,
) -> Result<Vec<u8>, ApiError> {
    let written = match shape {
        Shape::Inputs => serde_json::to_vec(rows),
        Shape::Texts => serde_json::to_vec(&TextsAnswer {
            embeddings: rows,
            dimension,
            model: model.id(),
            processing_time_ms: start.elapsed().as_secs_f64() * 1e3,
            cached_count: 0,
            edition,
            batch_size: rows.len(),
        }),
    };
    written.map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("the answer could not be written: {error}"))
}

/// Stage times, as the headers that text-embeddings-inference uses; milliseconds.
struct StageTimes {
    tokenization: Duration,
    queue: Duration,
    inference: Duration,
}

impl StageTimes {
    fn of(answer: &Answer) -> Self {
        Self {
            tokenization: answer.tokenization_time,
            queue: answer.queue_time(),
            inference: answer.inference_time(),
        }
    }

    fn write(&self, headers: &mut axum::http::HeaderMap, total: Duration) {
        let times = [
            ("x-total-time", total),
            ("x-tokenization-time", self.tokenization),
            ("x-queue-time", self.queue),
            ("x-inference-time", self.inference),
        ];
        for (name, time) in times {
            if let Ok(value) = HeaderValue::try_from(format!("{:.3}", time.as_secs_f64() * 1e3)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

async fn answer_info(State(serving): State<Serving>) -> Response<Body> {
    match serving.replica() {
        Ok(replica) => Json(replica.info_json()).into_response(),
        Err(error) => refusal::respond(&error, Speaks::Http),
    }
}

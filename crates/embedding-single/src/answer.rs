//! The last stage: finish the vectors, write them as JSON, say in headers where they came from and how long it took.

pub(crate) mod rows;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, header},
};
use protocol::{
    embed_json::{Shape, TextsAnswer},
    error::{ApiError, ErrorCode},
    inference::PrecisionClass,
};
use serde_json::value::RawValue;
use service::edition::Edition;
use tokio::time::Instant;
use vector::Finish;

use crate::{
    answer::rows::{Row, Rows},
    lookup::{CacheUse, Embedded, Gathered},
    precision,
    served::Model,
};

const CACHE: HeaderName = HeaderName::from_static("x-cache");
const CACHE_HITS: HeaderName = HeaderName::from_static("x-cache-hits");
const MODEL_IDENTITY: HeaderName = HeaderName::from_static("x-model-identity");
const TOKENS: HeaderName = HeaderName::from_static("x-tokens");
const PRECISION: HeaderName = HeaderName::from_static("x-precision");
const TOTAL_TIME: HeaderName = HeaderName::from_static("x-total-time");
const CACHE_TIME: HeaderName = HeaderName::from_static("x-cache-time");
const TOKENIZATION_TIME: HeaderName = HeaderName::from_static("x-tokenization-time");
const QUEUE_TIME: HeaderName = HeaderName::from_static("x-queue-time");
const INFERENCE_TIME: HeaderName = HeaderName::from_static("x-inference-time");

/// Every header an answer may carry, for web pages that want to read them.
pub(crate) const HEADERS: [HeaderName; 10] = [
    CACHE,
    CACHE_HITS,
    MODEL_IDENTITY,
    PRECISION,
    TOKENS,
    TOTAL_TIME,
    CACHE_TIME,
    TOKENIZATION_TIME,
    QUEUE_TIME,
    INFERENCE_TIME,
];

/// What an answer holds beside its rows, about.
const FRAME_BYTES: usize = 256;

/// What an answer is made from.
#[derive(Debug)]
pub(crate) struct Rendering {
    /// The shape to answer in.
    pub(crate) shape: Shape,
    /// The model that was asked.
    pub(crate) model: Arc<Model>,
    /// The edition in force.
    pub(crate) edition: Edition,
    /// Whether the request used the cache.
    pub(crate) cache: CacheUse,
    /// How to finish the vectors.
    pub(crate) finish: Finish,
    /// The vectors.
    pub(crate) gathered: Gathered,
    /// When the request arrived.
    pub(crate) start: Instant,
}

/// Writes the answer.
///
/// # Errors
/// [`ErrorCode::Internal`] if it cannot be written.
pub(crate) fn render(rendering: &Rendering, rows: &Rows) -> Result<Response<Body>, ApiError> {
    let json = write(rendering, rows).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        ApiError::new(ErrorCode::Internal, "the answer cannot be written")
    })?;
    let mut response = Response::new(Body::from(json));
    *response.headers_mut() = headers(rendering);
    Ok(response)
}

fn write(rendering: &Rendering, rows: &Rows) -> Result<Vec<u8>, serde_json::Error> {
    let gathered = &rendering.gathered;
    let rows = gathered.texts.iter().map(|text| rows.row(text, rendering.finish));
    let rows = rows.collect::<Result<Vec<Row>, _>>()?;
    let rows: Vec<&RawValue> = rows.iter().map(|row| &**row).collect();
    let bytes = rows.iter().map(|row| row.get().len() + ",".len()).sum::<usize>();
    let mut json = Vec::with_capacity(bytes + FRAME_BYTES);
    match rendering.shape {
        Shape::Inputs => serde_json::to_writer(&mut json, &rows)?,
        Shape::Texts => {
            let answer = TextsAnswer {
                embeddings: &rows,
                dimension: rendering.finish.dimensions(),
                model: &rendering.model.id,
                processing_time_ms: milliseconds(rendering.start.elapsed()),
                cached_count: gathered.hits(),
                edition: rendering.edition.name(),
                batch_size: rows.len(),
            };
            serde_json::to_writer(&mut json, &answer)?;
        }
    }
    Ok(json)
}

fn headers(rendering: &Rendering) -> HeaderMap {
    let Gathered { texts, lookup_time, times } = &rendering.gathered;
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE, HeaderValue::from_static(cache_word(rendering))),
        (CACHE_HITS, HeaderValue::from(rendering.gathered.hits())),
        (MODEL_IDENTITY, value(rendering.model.identity.clone())),
        (PRECISION, HeaderValue::from_static(lowest_class(texts).name())),
        (TOKENS, HeaderValue::from(tokens(texts))),
        (CACHE_TIME, time(*lookup_time + times.l2)),
        (TOKENIZATION_TIME, time(times.tokenization)),
        (QUEUE_TIME, time(times.queue)),
        (INFERENCE_TIME, time(times.inference)),
        (TOTAL_TIME, time(rendering.start.elapsed())),
    ])
}

/// Of every text, whoever computed it and when: what is paid for does not depend on the cache.
fn tokens(texts: &[Embedded]) -> u64 {
    texts.iter().map(|text| u64::from(text.vector.tokens)).sum()
}

fn lowest_class(texts: &[Embedded]) -> PrecisionClass {
    precision::lowest(texts.iter().map(|text| text.vector.class))
}

fn cache_word(rendering: &Rendering) -> &'static str {
    match (rendering.cache, rendering.gathered.hits()) {
        (CacheUse::Bypass, _) => "bypass",
        (CacheUse::Full, 0) => "miss",
        (CacheUse::Full, hits) if hits == rendering.gathered.texts.len() => "hit",
        (CacheUse::Full, _) => "partial",
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Milliseconds with three digits behind the point.
fn time(time: Duration) -> HeaderValue {
    match time.as_micros() {
        // A stage that a hit does not pass: three of them in each answer.
        0 => HeaderValue::from_static("0.000"),
        microseconds => value(format!("{}.{:03}", microseconds / 1000, microseconds % 1000)),
    }
}

/// Digits and hex digits only come here, so the value always fits a header.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

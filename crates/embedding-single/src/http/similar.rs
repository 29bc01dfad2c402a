//! `POST /cache/similar`: the cached texts that are nearest to a text.
//!
//! Its body is that of `POST /embed` with one text, so it is read, checked and computed in the same way.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{Request, Response},
    response::IntoResponse,
};
use protocol::{
    cache::Neighbour,
    error::{ApiError, ErrorCode},
};
use serde::{Deserialize, Serialize};
use service::refusal::{self, Speaks};
use tokio::time::Instant;

use crate::{http::Front, lookup::l2::Neighbours};

/// As many as a shard finds in one search, and the text itself.
const COUNT_MAX: u32 = 999;
const COUNT_DEFAULT: u32 = 10;

/// What the query of the URL may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    count: Option<u32>,
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    neighbours: Vec<Shown>,
    /// Vectors that were compared.
    compared: u64,
    /// Shards that did not answer: there may be nearer ones.
    missing_shards: Vec<String>,
    processing_time_ms: f64,
}

#[derive(Serialize)]
struct Shown {
    key: String,
    cosine: f32,
    tokens: u32,
    truncated: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
}

/// The handler.
pub(crate) async fn similar(
    State(front): State<Arc<Front>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request<Body>,
) -> Response<Body> {
    let answered = match wanted {
        Ok(Query(wanted)) => front.similar(&wanted, request).await,
        Err(rejection) => Err(ApiError::new(ErrorCode::Malformed, rejection.body_text()).at_field("count")),
    };
    answered.unwrap_or_else(|error| refusal::respond(&error, Speaks::Http))
}

impl Front {
    async fn similar(&self, wanted: &Wanted, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let start = Instant::now();
        let count = wanted.count.unwrap_or(COUNT_DEFAULT);
        if !(1..=COUNT_MAX).contains(&count) {
            let message = format!("`count` is {count}, the limits are 1 and {COUNT_MAX}");
            return Err(ApiError::new(ErrorCode::Invalid, message).at_field("count"));
        }
        let Some(l2) = &self.lookup.caches().l2 else {
            let message = "this proxy has no cache shard, which is where neighbours are searched";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let one = self.one_vector(request).await?;
        let found = l2.similar(&one.model, one.key, &one.vector, count).await;
        if found.nearest.is_empty() && !found.missing.is_empty() {
            return Err(ApiError::new(ErrorCode::Unavailable, shown_missing(&found).join("; ")));
        }
        let answer = Answer {
            model: &one.model.id,
            compared: found.compared,
            missing_shards: shown_missing(&found),
            neighbours: found.nearest.into_iter().map(show).collect(),
            processing_time_ms: start.elapsed().as_secs_f64() * 1_000.0,
        };
        Ok(Json(answer).into_response())
    }
}

fn shown_missing(found: &Neighbours) -> Vec<String> {
    found.missing.iter().map(|(name, error)| format!("{name}: {error}")).collect()
}

fn show(near: Neighbour) -> Shown {
    let record = near.record.unwrap_or_default();
    Shown {
        key: near.key.iter().map(|byte| format!("{byte:02x}")).collect(),
        cosine: near.cosine,
        tokens: record.tokens,
        truncated: record.truncated,
        text: record.text,
    }
}

//! `GET /cache/stats` and `POST /cache/clear`, with the plan's fields.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use protocol::error::{ApiError, ErrorCode};
use serde::Serialize;
use service::refusal::{self, Speaks};

use crate::http::Front;

#[derive(Serialize)]
struct Stats {
    l1: L1Stats,
    l2: L2Stats,
    total: TotalStats,
}

#[derive(Serialize)]
struct L1Stats {
    size: usize,
    hits: u64,
    misses: u64,
    hit_rate: f64,
}

#[derive(Serialize)]
struct L2Stats {
    hits: u64,
    misses: u64,
    hit_rate: f64,
    enabled: bool,
    backend: &'static str,
}

#[derive(Serialize)]
struct TotalStats {
    requests: u64,
    hits: u64,
    misses: u64,
    hit_rate: f64,
}

/// Counts distinct texts of each request, since the start or the last clear.
pub(crate) async fn stats(State(front): State<Arc<Front>>) -> Response {
    let (size, hits, misses) = front.lookup.stats();
    let requests = hits + misses;
    let hit_rate = if requests == 0 { 0.0 } else { hits as f64 / requests as f64 };
    let stats = Stats {
        l1: L1Stats { size, hits, misses, hit_rate },
        l2: L2Stats { hits: 0, misses: 0, hit_rate: 0.0, enabled: false, backend: "sutra-storage" },
        total: TotalStats { requests, hits, misses, hit_rate },
    };
    Json(stats).into_response()
}

#[derive(Serialize)]
struct Cleared {
    cleared: usize,
}

/// Forgets every vector. Computations in flight are answered and not kept.
pub(crate) async fn clear(State(front): State<Arc<Front>>) -> Response {
    // Freeing a full cache takes long enough to hold up others.
    match tokio::task::spawn_blocking(move || front.lookup.clear()).await {
        Ok(cleared) => {
            tracing::info!(cleared, "cache cleared");
            Json(Cleared { cleared }).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the cache was not cleared");
            refusal::respond(&ApiError::new(ErrorCode::Internal, "the cache was not cleared"), Speaks::Http)
        }
    }
}

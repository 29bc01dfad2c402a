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

use crate::{
    http::Front,
    lookup::{
        Cleared,
        counts::{Level, Levels},
        l2::{L2, ShardState, Shown},
    },
};

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
    /// `up`, `down`, `partial` where some are up, or `off`.
    state: &'static str,
    /// What the shards hold together, of all namespaces.
    entries: u64,
    bytes: u64,
    /// True while any of them refuses what it should store.
    degraded: bool,
    shards: Vec<ShardStats>,
}

#[derive(Serialize)]
struct ShardStats {
    name: String,
    /// `up` or `down`.
    state: &'static str,
    entries: u64,
    bytes: u64,
    degraded: bool,
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
    let (counts, caches) = (front.lookup.counts(), front.lookup.caches());
    let Levels { l1, l2, total } = counts.levels();
    let l2 = if caches.l2.is_some() { l2 } else { Level::default() };
    let stats = Stats {
        l1: L1Stats {
            size: caches.l1.size().entries,
            hits: l1.hits,
            misses: l1.misses,
            hit_rate: hit_rate(l1),
        },
        l2: l2_stats(caches.l2.as_deref(), l2),
        total: TotalStats {
            requests: total.hits + total.misses,
            hits: total.hits,
            misses: total.misses,
            hit_rate: hit_rate(total),
        },
    };
    Json(stats).into_response()
}

fn l2_stats(l2: Option<&L2>, level: Level) -> L2Stats {
    let shards: Vec<_> = l2.map(L2::shown).unwrap_or_default().into_iter().map(shard_stats).collect();
    L2Stats {
        hits: level.hits,
        misses: level.misses,
        hit_rate: hit_rate(level),
        enabled: l2.is_some(),
        backend: "sutra-storage",
        state: if l2.is_some() { state(&shards) } else { "off" },
        entries: shards.iter().map(|shard| shard.entries).sum(),
        bytes: shards.iter().map(|shard| shard.bytes).sum(),
        degraded: shards.iter().any(|shard| shard.degraded),
        shards,
    }
}

fn shard_stats(Shown { name, state, sight }: Shown) -> ShardStats {
    let state = match state {
        ShardState::Up => "up",
        ShardState::Down => "down",
    };
    ShardStats {
        name: name.to_string(),
        state,
        entries: sight.entries,
        bytes: sight.bytes,
        degraded: sight.degraded,
    }
}

fn state(shards: &[ShardStats]) -> &'static str {
    match shards.iter().filter(|shard| shard.state == "up").count() {
        0 => "down",
        up if up == shards.len() => "up",
        _ => "partial",
    }
}

fn hit_rate(Level { hits, misses }: Level) -> f64 {
    if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
}

#[derive(Serialize)]
struct Answer {
    cleared: usize,
}

/// Forgets every vector, here and in the cache shards. Computations in flight are answered and not kept.
pub(crate) async fn clear(State(front): State<Arc<Front>>) -> Response {
    let cleared = front.lookup.clear().await;
    front.rows.clear();
    match cleared {
        Ok(Cleared { l1_entries: cleared, l2: Ok(()) }) => {
            tracing::info!(cleared, "cache cleared");
            Json(Answer { cleared }).into_response()
        }
        Ok(Cleared { l2: Err(error), .. }) => {
            tracing::error!(%error, "cache shards were not cleared");
            let message = format!(
                "L1 was cleared, these cache shards were not, so ask again; they are not used until they are: {error}"
            );
            refusal::respond(&ApiError::new(ErrorCode::Unavailable, message), Speaks::Http)
        }
        Err(error) => {
            tracing::error!(%error, "the cache was not cleared");
            refusal::respond(&ApiError::new(ErrorCode::Internal, "the cache was not cleared"), Speaks::Http)
        }
    }
}

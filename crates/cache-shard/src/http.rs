//! What `GET /health` says beside the state, and `GET /info`.

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Map, Value, json};

use crate::{config::Config, slot::Slot};

/// What this node is and holds, in the answer of `/health`.
pub fn health_detail(slot: &Slot, config: &Config) -> Map<String, Value> {
    let stats = slot.stats();
    let detail = [
        ("role", json!(config.role)),
        ("vector_dimension", json!(config.vector_dimension)),
        ("entries", json!(stats.entries)),
        ("bytes", json!(stats.bytes)),
        ("degraded", json!(stats.degraded)),
    ];
    detail.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `GET /info`, which works while the store still opens.
pub fn info(slot: Slot, config: Config) -> Router {
    Router::new().route("/info", get(answer_info)).with_state((slot, config))
}

async fn answer_info(State((slot, config)): State<(Slot, Config)>) -> Json<Value> {
    let stats = slot.stats();
    Json(json!({
        "service": "cache-shard",
        "version": env!("CARGO_PKG_VERSION"),
        "instance": config.instance_id,
        "role": config.role,
        "vector_dimension": config.vector_dimension,
        "storage": config.storage,
        "limits": config.limits,
        "entries": stats.entries,
        "bytes": stats.bytes,
        "segments": stats.segments,
        "degraded": stats.degraded,
    }))
}

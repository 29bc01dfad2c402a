//! What operators and balancers ask: `/health`, `/livez`, `/metrics`. Answered from the first second, past every gate.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State as Extracted,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::lifecycle::{Lifecycle, State};

/// Who answers the probes.
#[derive(Debug, Clone)]
pub struct Probes {
    /// Name of the service, as `ml-base`.
    pub service: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// Name of this instance.
    pub instance: String,
    /// State of this process.
    pub lifecycle: Lifecycle,
    /// Metrics of this process.
    pub registry: Arc<Registry>,
}

#[derive(Serialize)]
struct Health<'a> {
    status: State,
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    #[serde(flatten)]
    detail: Map<String, Value>,
}

/// What a service adds to the answer of `/health`, asked each time.
type Detail = Box<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// The routes of the probes.
pub fn routes(probes: Probes) -> Router {
    routes_with_detail(probes, Map::new)
}

/// The routes of the probes, with what `detail` says in the answer of `/health`.
pub fn routes_with_detail(
    probes: Probes,
    detail: impl Fn() -> Map<String, Value> + Send + Sync + 'static,
) -> Router {
    let detail: Detail = Box::new(detail);
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(async || "alive\n"))
        .route("/metrics", get(metrics))
        .with_state(Arc::new((probes, detail)))
}

async fn health(Extracted(stand): Extracted<Arc<(Probes, Detail)>>) -> Response {
    let (probes, detail) = &*stand;
    let status = probes.lifecycle.state();
    let code = if status == State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let Probes { service, version, instance, .. } = probes;
    let body = Health { status, service, version, instance, detail: detail() };
    (code, Json(body)).into_response()
}

async fn metrics(Extracted(stand): Extracted<Arc<(Probes, Detail)>>) -> Response {
    let (probes, _) = &*stand;
    let mut text = String::new();
    match encode(&mut text, &probes.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

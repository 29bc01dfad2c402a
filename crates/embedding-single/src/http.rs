//! The HTTP front: which path leads where, and through which gates.
//!
//! ```text
//!  observe ─▶ CORS ─┬─▶ /health /livez /metrics                      open, from the first second
//!                   ├─▶ auth ─▶ /info /cache/stats /cache/clear
//!                   └─▶ auth ─▶ admission ─▶ /embed /cache/similar
//! ```

mod cache;
mod embed;
mod info;
mod similar;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
    routing::{get, post},
};
use service::{
    admission::Admission,
    auth::ApiKey,
    body::BodyLimits,
    deadline::TIMEOUT_HEADER,
    gate::through,
    leftover::ReadLeftovers,
    observe::Observer,
    probes::{self, Probes},
    refusal,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    answer::{self, rows::Rows},
    config::Config,
    lookup::Lookup,
    models::Models,
};

/// How long a browser may remember what it was allowed.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct Front {
    /// The configuration in force.
    pub(crate) config: Config,
    /// What ml-base serves.
    pub(crate) models: Models,
    /// Where vectors come from.
    pub(crate) lookup: Lookup,
    /// Bounds of bodies.
    pub(crate) bodies: BodyLimits,
    /// What was printed before.
    pub(crate) rows: Arc<Rows>,
}

/// What stands in front of the handlers.
#[derive(Debug)]
pub(crate) struct Gates {
    /// Counts and request ids.
    pub(crate) observer: Observer,
    /// State, permits, deadlines.
    pub(crate) admission: Admission,
    /// Who answers the probes.
    pub(crate) probes: Probes,
}

/// All routes.
pub(crate) fn router(front: Arc<Front>, gates: Gates) -> Router {
    let key = front.config.api_key.clone();
    let cors = cors(&front.config.cors_origins);
    let work = Router::new()
        .route("/embed", post(embed::embed))
        .route("/cache/similar", post(similar::similar))
        // In this order, so that whoever has no key takes no permit.
        .route_layer((through(key.clone()), through(gates.admission)));
    let app = Router::new()
        .merge(work)
        .merge(operators(key))
        .with_state(front)
        .merge(probes::routes(gates.probes))
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .fallback(refusal::not_found);
    let app = match cors {
        Some(cors) => app.layer(cors),
        None => app,
    };
    app.layer((through(gates.observer), through(ReadLeftovers)))
}

fn operators(key: ApiKey) -> Router<Arc<Front>> {
    Router::new()
        .route("/info", get(info::info))
        .route("/cache/stats", get(cache::stats))
        .route("/cache/clear", post(cache::clear))
        .route_layer(through(key))
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        [any] if any == "*" => AllowOrigin::any(),
        // The configuration was checked: all of them are header values.
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let request_id = HeaderName::from_static("x-request-id");
    let read = [header::AUTHORIZATION, header::CONTENT_TYPE, header::CACHE_CONTROL, TIMEOUT_HEADER];
    let shown = answer::HEADERS.into_iter().chain([header::RETRY_AFTER, request_id.clone()]);
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(read.into_iter().chain([request_id]).collect::<Vec<_>>())
            .expose_headers(shown.collect::<Vec<_>>())
            .max_age(PREFLIGHT_MAX_AGE),
    )
}

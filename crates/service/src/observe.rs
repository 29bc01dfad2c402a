//! What every request leaves behind: counts, a duration, a request id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::{HeaderName, HeaderValue, Request, Response},
    middleware::Next,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Upper bounds of the duration histograms, seconds.
pub const DURATION_BUCKETS_SECONDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    path: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: String,
}

/// Metrics of the HTTP and gRPC front of one service; clones share them.
#[derive(Debug, Clone)]
pub struct Observer {
    requests: Family<Labels, Counter>,
    duration: Family<PathLabel, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    ids: Arc<AtomicU64>,
}

impl Observer {
    /// Registers its metrics with `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        // Ids of two runs of a process should differ; nothing depends on it.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() << 32);
        let observer = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(new_duration),
            in_flight: Gauge::default(),
            ids: Arc::new(AtomicU64::new(start)),
        };
        registry.register("requests", "requests answered", observer.requests.clone());
        registry.register(
            "request_duration_seconds",
            "time from headers to answer",
            observer.duration.clone(),
        );
        registry.register("requests_in_flight", "requests being answered", observer.in_flight.clone());
        observer
    }

    fn id_of(&self, request: &Request<Body>) -> HeaderValue {
        let given = request.headers().get(REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX);
        given.cloned().unwrap_or_else(|| {
            let id = format!("{:016x}", self.ids.fetch_add(1, Ordering::Relaxed));
            HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("0"))
        })
    }
}

fn new_duration() -> Histogram {
    Histogram::new(DURATION_BUCKETS_SECONDS)
}

/// Takes one from the gauge when a request ends, also when its client goes away.
struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The middleware around everything.
pub async fn observe(State(observer): State<Observer>, request: Request<Body>, next: Next) -> Response<Body> {
    let start = Instant::now();
    let id = observer.id_of(&request);
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    observer.in_flight.inc();
    let _in_flight = InFlight(&observer.in_flight);
    let mut response = next.run(request).await;
    let elapsed = start.elapsed();
    let status = response.status().as_u16();
    tracing::debug!(path, status, elapsed_us = elapsed.as_micros(), request_id = ?id, "answered");
    let label = PathLabel { path };
    observer.duration.get_or_create(&label).observe(elapsed.as_secs_f64());
    observer.requests.get_or_create(&Labels { path: label.path, status }).inc();
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

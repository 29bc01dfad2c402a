//! What every request leaves behind: counts, a duration, a request id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::MatchedPath,
    http::{HeaderName, HeaderValue, Request, Response},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use protocol::error::ApiError;
use tokio::time::Instant;

use crate::gate::Gate;

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

/// The gate around everything: metrics of the HTTP and gRPC front of one service; clones share them.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Observed>);

#[derive(Debug)]
struct Observed {
    requests: Family<Labels, Counter>,
    duration: Family<PathLabel, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    ids: AtomicU64,
}

impl Observer {
    /// Registers its metrics with `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        // Ids of two runs of a process should differ; nothing depends on it.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() << 32);
        let observed = Observed {
            requests: Family::default(),
            duration: Family::new_with_constructor(new_duration),
            in_flight: Gauge::default(),
            ids: AtomicU64::new(start),
        };
        registry.register("requests", "requests answered", observed.requests.clone());
        registry.register(
            "request_duration_seconds",
            "time from headers to answer",
            observed.duration.clone(),
        );
        registry.register("requests_in_flight", "requests being answered", observed.in_flight.clone());
        Self(Arc::new(observed))
    }
}

impl Observed {
    fn id_of(&self, request: &Request<Body>) -> HeaderValue {
        let given = request.headers().get(REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX);
        given.cloned().unwrap_or_else(|| {
            let id = format!("{:016x}", self.ids.fetch_add(1, Ordering::Relaxed));
            HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("0"))
        })
    }

    fn note(&self, path: String, status: u16, elapsed: Duration) {
        let label = PathLabel { path };
        self.duration.get_or_create(&label).observe(elapsed.as_secs_f64());
        self.requests.get_or_create(&Labels { path: label.path, status }).inc();
    }
}

fn new_duration() -> Histogram {
    Histogram::new(DURATION_BUCKETS_SECONDS)
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight {
    observed: Arc<Observed>,
    start: Instant,
    id: HeaderValue,
    path: Option<MatchedPath>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.observed.in_flight.dec();
    }
}

impl Gate for Observer {
    type Pass = InFlight;

    fn enter(&self, request: &mut Request<Body>) -> Result<InFlight, ApiError> {
        let start = Instant::now();
        let id = self.0.id_of(request);
        let path = request.extensions().get::<MatchedPath>().cloned();
        self.0.in_flight.inc();
        Ok(InFlight { observed: self.0.clone(), start, id, path })
    }

    async fn leave(
        pass: InFlight,
        answer: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        let mut response = answer.await;
        let elapsed = pass.start.elapsed();
        let status = response.status().as_u16();
        let path = pass.path.as_ref().map_or("unmatched", MatchedPath::as_str);
        tracing::debug!(path, status, elapsed_us = elapsed.as_micros(), request_id = ?pass.id, "answered");
        pass.observed.note(path.to_owned(), status, elapsed);
        response.headers_mut().insert(REQUEST_ID, pass.id.clone());
        response
    }
}

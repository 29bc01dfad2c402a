//! Caching proxy: answers embedding requests from its cache, sends what is missing to ml-base.
//!
//! ```text
//!  client ──▶ http ──▶ key ──▶ lookup ──────────────────────▶ answer ──▶ client
//!             limits   256     L1 ─▶ single-flight ─▶ L2 ─┬─▶ layer-norm, cut,
//!             permit   bits                          miss │   unit norm, JSON
//!                                                         ▼
//!                                         chunks, retry ──▶ ml-base
//! ```
//!
//! # Goals
//! - A vector from the cache equals the one that would be computed, bit for bit.
//! - A text that many ask for at once is computed once; who stops waiting strands nobody.
//! - What is cached is served also while ml-base is away.
//! - A pass over many texts pushes out of memory nothing that is in use.
//! - Every queue, cache, body and wait has a bound, and refuses in one sentence that names it.
//!
//! # Non-goals
//! - Batches for the device: ml-base forms them. Texts are held back only while all calls are taken.
//! - A store of its own: what outlives the process and is shared lies in cache-shard, on several if need be, and a fault there is a miss.

pub mod args;
pub mod config;

mod http;

mod precision;

mod served;
mod models;

mod key;
mod lookup;

mod miss;

mod answer;

mod metrics;
mod gauges;

#[cfg(any(test, fuzzing))]
pub mod any_bytes;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use prometheus_client::registry::Registry;
use service::{
    admission::Admission, body::BodyLimits, lifecycle::Lifecycle, observe::Observer, probes::Probes,
    server::Drained,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::lookup::l1::{admission::Admission as CacheAdmission, alone::L1Alone};

use crate::{
    answer::rows::Rows,
    config::{CacheLimits, Config},
    gauges::{ShardsUp, SizeInMemory},
    http::{Front, Gates},
    lookup::{
        Caches, Lookup,
        l1::L1,
        l2::{L2, resolve::System},
    },
    metrics::Metrics,
    miss::{Dispatcher, ml_base::MlBase},
    models::Models,
    precision::Classes,
    served::Accepted,
};

pub use crate::lookup::l2::resolve::Resolve;

/// Name of this service.
pub const SERVICE: &str = "embedding-single";
/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Of the bytes of the cache in memory this part, by one, is for vectors that are printed already.
const ROWS_PART: usize = 8;
/// What a drained proxy waits for the cache shards to take its last vectors.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

/// A proxy, ready to be served; several may live in one process.
#[derive(Debug)]
pub struct Proxy {
    app: Router,
    lifecycle: Lifecycle,
    limits: service::server::ServerLimits,
    l2: Option<Arc<L2>>,
    _background: DropGuard,
}

impl Proxy {
    /// Builds a proxy and starts asking ml-base what it serves. Needs a runtime.
    ///
    /// # Errors
    /// If ml-base's URL, or a shard's, is none that can be connected to.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_resolving(config, Arc::new(System))
    }

    /// The same, with another way to resolve a name of shards.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_resolving(config: Config, resolve: Arc<dyn Resolve>) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::default();
        let stop = CancellationToken::new();
        let classes = Classes::new(config.precision_classes.iter().map(|class| class.on_the_wire()));
        let ml_base =
            MlBase::new(&config.ml_base_url, classes.clone()).context("--ml-base-url cannot be used")?;
        let CacheLimits { entries_max, bytes_max, admission, .. } = config.cache;
        let rows_bytes = if entries_max == 0 { 0 } else { bytes_max / ROWS_PART };
        let rows = Arc::new(Rows::new(rows_bytes));
        let l1 = Arc::new(L1::new(entries_max, bytes_max - rows_bytes).admitting(admission));
        let metrics = Metrics::new();
        let mut registry = Registry::with_prefix("embedding_single");
        metrics.register(&mut registry);
        registry.register_collector(Box::new(SizeInMemory { l1: l1.clone(), rows: rows.clone() }));
        let observer = Observer::new(&mut registry);
        let l2 = config
            .shard
            .as_ref()
            .map(|shards| L2::start(shards, &config, resolve, l1.clone(), metrics.clone(), stop.clone()));
        let l2 = l2.transpose().context("--shards cannot be used")?.map(Arc::new);
        if let Some(l2) = l2.clone() {
            registry.register_collector(Box::new(ShardsUp(l2)));
        }
        let models = Models::start(
            ml_base.clone(),
            l2.clone(),
            Accepted { classes, dimensions: config.dimensions },
            lifecycle.clone(),
            stop.clone(),
        );
        let requests = config.requests;
        let dispatcher = Dispatcher::start(config.misses, requests.requests_max, ml_base, metrics.clone());
        let gates = Gates {
            observer,
            admission: Admission::new(lifecycle.clone(), requests.requests_max, requests.timeout),
            probes: Probes {
                service: SERVICE,
                version: VERSION,
                instance: config.instance.clone(),
                lifecycle: lifecycle.clone(),
                registry: Arc::new(registry),
            },
        };
        let namespace = config.namespace.clone();
        let caches = Caches { l1, l1_ttl: config.cache.ttl, l2: l2.clone() };
        let lookup = Lookup::new(caches, dispatcher, namespace, config.misses.compute_timeout, metrics);
        let bodies = BodyLimits::new(requests.body_bytes_max, requests.body_budget_bytes, requests.timeout);
        let limits = config.server.clone();
        let app = http::router(Arc::new(Front { config, models, lookup, bodies, rows }), gates);
        Ok(Self { app, lifecycle, limits, l2, _background: stop.drop_guard() })
    }

    /// Its state; ready once ml-base has said what it serves.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Serves on `listener` until `shutdown`, then drains, and stores what is not stored yet.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Drained {
        let drained =
            service::server::serve(listener, self.app, &self.limits, &self.lifecycle, shutdown).await;
        if let Some(l2) = &self.l2 {
            l2.flush(FLUSH_TIME_MAX).await;
        }
        drained
    }
}

/// Runs a proxy on `listener` until `shutdown`; returns when it has drained.
///
/// # Errors
/// If it cannot start.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ml_base_url = config.ml_base_url.clone();
    let proxy = Proxy::start(config)?;
    tracing::info!(address = %listener.local_addr()?, %ml_base_url, "listening");
    let drained = proxy.serve(listener, shutdown).await;
    tracing::info!(?drained, "stopped");
    Ok(())
}

//! Puts the parts together: the port opens first, the store follows.

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use axum::Router;
use prometheus_client::registry::Registry;
use protocol::cache::cache_server::CacheServer;
use service::{
    admission::Admission,
    gate::through,
    grpc_probes,
    leftover::ReadLeftovers,
    lifecycle::{Lifecycle, State},
    observe::Observer,
    probes::{self, Probes},
    refusal, server,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, StorageConfig},
    grpc::Grpc,
    http,
    metrics::StoreCollector,
    slot::Slot,
    store::{Keeper, Options, RealFs, Store, SystemClock},
};

/// Serves on `listener` until `shutdown`, or until the store turns out to be unusable.
///
/// # Errors
/// Why the store cannot be opened.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::default();
    let slot = Slot::default();
    let mut registry = Registry::with_prefix("cache_shard");
    let observer = Observer::new(&mut registry);
    registry.register_collector(Box::new(StoreCollector(slot.clone())));
    let probes = Probes {
        service: "cache-shard",
        version: env!("CARGO_PKG_VERSION"),
        instance: config.instance_id.clone(),
        lifecycle: lifecycle.clone(),
        registry: Arc::new(registry),
    };
    let app = router(&config, &slot, probes, observer);
    tracing::info!(address = %listener.local_addr()?, instance = config.instance_id, "listening");
    let serving = server::serve(listener, app, &config.limits.server, &lifecycle, shutdown);
    let opening = async {
        let opened = open(config.storage.clone()).await;
        opened.map(|(store, keeper)| {
            slot.fill(store);
            lifecycle.set(State::Ready);
            keeper
        })
    };
    let mut serving = std::pin::pin!(serving);
    let keeper = tokio::select! {
        opened = opening => Some(opened?),
        drained = &mut serving => {
            tracing::info!(?drained, "stopped before the store was open");
            None
        }
    };
    if let Some(keeper) = keeper {
        let drained = serving.await;
        tracing::info!(?drained, "stopped");
        // Waits for its last round, and so for a disk.
        tokio::task::spawn_blocking(|| drop(keeper)).await?;
    }
    Ok(())
}

async fn open(config: StorageConfig) -> anyhow::Result<(Arc<Store>, Keeper)> {
    let work = move || {
        let start = Instant::now();
        let options = Options {
            budget: config.budget(),
            vfs: Arc::new(RealFs::new(config.path)),
            default_ttl: config.default_ttl,
            ttl_mode: config.ttl_mode,
            ttl_jitter_percent: config.ttl_jitter_percent,
            durability: config.durability,
            clock: Arc::new(SystemClock::default()),
        };
        let store = Arc::new(Store::open(options).context("open the store")?);
        let stats = store.stats();
        tracing::info!(
            entries = stats.entries,
            bytes = stats.bytes,
            damaged_segments = stats.damaged_segments,
            elapsed_ms = start.elapsed().as_millis(),
            "the store is open"
        );
        let keeper = Keeper::start(store.clone(), config.sync_interval)?;
        Ok((store, keeper))
    };
    tokio::task::spawn_blocking(work).await.context("the store failed while it was opened")?
}

fn router(config: &Config, slot: &Slot, probes: Probes, observer: Observer) -> Router {
    let limits = &config.limits;
    let lifecycle = probes.lifecycle.clone();
    let admission = Admission::new(lifecycle.clone(), limits.calls_max, limits.request_timeout);
    let cache = CacheServer::new(Grpc::new(slot.clone(), config))
        .max_decoding_message_size(limits.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let detail = {
        let (slot, config) = (slot.clone(), config.clone());
        move || http::health_detail(&slot, &config)
    };
    Router::new()
        .route_service("/sutra.cache.v1.Cache/{*method}", cache)
        .route_layer(through(admission))
        .merge(http::info(slot.clone(), config.clone()))
        .merge(probes::routes_with_detail(probes, detail))
        .merge(grpc_probes::routes(lifecycle, "sutra.cache.v1.Cache"))
        .fallback(refusal::not_found)
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer((through(observer), through(ReadLeftovers)))
}

//! Puts the parts together: the port opens first, the models follow.

use std::sync::Arc;

use axum::Router;
use prometheus_client::registry::Registry;
use protocol::inference::inference_server::InferenceServer;
use service::{
    admission::Admission,
    body::BodyLimits,
    gate::through,
    grpc_probes,
    leftover::ReadLeftovers,
    lifecycle::Lifecycle,
    observe::Observer,
    probes::{self, Probes},
    refusal, server,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Limits},
    grpc::Grpc,
    http, load,
    metrics::{Metrics, ModelsCollector},
    serving::Serving,
};

/// Serves on `listener` until `shutdown`, or until a model turns out to be unusable.
///
/// # Errors
/// Why a model cannot be served.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::default();
    let serving = Serving::default();
    let mut registry = Registry::with_prefix("ml_base");
    let observer = Observer::new(&mut registry);
    let metrics = Metrics::new(&mut registry);
    registry.register_collector(Box::new(ModelsCollector(serving.clone())));
    let probes = Probes {
        service: "ml-base",
        version: env!("CARGO_PKG_VERSION"),
        instance: config.instance_id.clone(),
        lifecycle: lifecycle.clone(),
        registry: Arc::new(registry),
    };
    let app = router(&config.limits, &serving, probes, observer);
    tracing::info!(address = %listener.local_addr()?, instance = config.instance_id, "listening");
    let limits = config.limits.server.clone();
    let stands = load::Stands { serving: serving.clone(), lifecycle: lifecycle.clone(), metrics };
    let failed = load::keep(config, stands);
    let served = server::serve(listener, app, &limits, &lifecycle, shutdown);
    tokio::select! {
        drained = served => tracing::info!(?drained, "stopped"),
        failure = failed => return Err(failure),
    }
    serving.close();
    Ok(())
}

fn router(limits: &Limits, serving: &Serving, probes: Probes, observer: Observer) -> Router {
    let lifecycle = probes.lifecycle.clone();
    let admission = Admission::new(lifecycle.clone(), limits.calls_max, limits.request_timeout);
    let bodies = BodyLimits::new(limits.body_bytes_max, limits.body_budget_bytes, limits.request_timeout);
    let inference = InferenceServer::new(Grpc::new(serving.clone()))
        .max_decoding_message_size(limits.body_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let work = http::work(serving.clone(), bodies)
        .route_service("/sutra.inference.v1.Inference/{*method}", inference)
        .route_layer(through(admission));
    work.merge(http::info(serving.clone()))
        .merge(probes::routes(probes))
        .merge(grpc_probes::routes(lifecycle, "sutra.inference.v1.Inference"))
        .fallback(refusal::not_found)
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer((through(observer), through(ReadLeftovers)))
}

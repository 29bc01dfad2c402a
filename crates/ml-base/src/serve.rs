//! Puts the parts together: the port opens first, the model follows.

use std::sync::Arc;

use anyhow::anyhow;
use axum::{Router, middleware};
use prometheus_client::registry::Registry;
use protocol::inference::inference_server::InferenceServer;
use service::{
    admission::{Admission, admit},
    body::BodyLimits,
    grpc_probes,
    leftover::read_leftovers,
    lifecycle::Lifecycle,
    observe::{Observer, observe},
    probes::{self, Probes},
    refusal, server,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Limits},
    grpc::Grpc,
    http, load,
    metrics::{Metrics, QueueCollector},
    queue::{Queue, QueueLimits},
    serving::Slot,
};

/// Serves on `listener` until `shutdown`, or until the model turns out to be unusable.
///
/// # Errors
/// Why the model cannot be served.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::default();
    let slot = Slot::default();
    let mut registry = Registry::with_prefix("ml_base");
    let observer = Observer::new(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let queue = Arc::new(Queue::new(queue_limits(&config.limits)));
    registry.register_collector(Box::new(QueueCollector(queue.clone())));
    let probes = Probes {
        service: "ml-base",
        version: env!("CARGO_PKG_VERSION"),
        instance: config.instance_id.clone(),
        lifecycle: lifecycle.clone(),
        registry: Arc::new(registry),
    };
    let app = router(&config.limits, &slot, probes, observer);
    tracing::info!(address = %listener.local_addr()?, instance = config.instance_id, "listening");
    let limits = config.limits.server.clone();
    let stands = load::Stands { slot, queue: queue.clone(), lifecycle: lifecycle.clone(), metrics };
    let failure = load::start(config, stands)?;
    let serving = server::serve(listener, app, &limits, &lifecycle, shutdown);
    tokio::select! {
        drained = serving => tracing::info!(?drained, "stopped"),
        failure = failure => return Err(failure.unwrap_or_else(|_| anyhow!("the worker has ended"))),
    }
    queue.close();
    Ok(())
}

fn queue_limits(limits: &Limits) -> QueueLimits {
    QueueLimits {
        tokens_max: limits.queue_tokens_max,
        batch_tokens_max: limits.batch_tokens_max,
        batch_texts_max: limits.batch_texts_max,
    }
}

fn router(limits: &Limits, slot: &Slot, probes: Probes, observer: Observer) -> Router {
    let lifecycle = probes.lifecycle.clone();
    let admission = Admission::new(lifecycle.clone(), limits.calls_max, limits.request_timeout);
    let bodies = BodyLimits::new(limits.body_bytes_max, limits.body_budget_bytes, limits.request_timeout);
    let inference = InferenceServer::new(Grpc::new(slot.clone()))
        .max_decoding_message_size(limits.body_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let work = http::work(slot.clone(), bodies)
        .route_service("/sutra.inference.v1.Inference/{*method}", inference)
        .route_layer(middleware::from_fn_with_state(admission, admit));
    work.merge(http::info(slot.clone()))
        .merge(probes::routes(probes))
        .merge(grpc_probes::routes(lifecycle, "sutra.inference.v1.Inference"))
        .fallback(refusal::not_found)
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer(middleware::from_fn(read_leftovers))
        .layer(middleware::from_fn_with_state(observer, observe))
}

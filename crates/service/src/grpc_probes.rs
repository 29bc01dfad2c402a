//! What gRPC clients ask beside the work: grpc.health.v1, from the same source as `/health`, and reflection.

use axum::Router;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
};

use crate::lifecycle::{Lifecycle, State};

/// The routes, for a process that serves the gRPC service `name`. Needs a runtime.
pub fn routes(lifecycle: Lifecycle, name: &'static str) -> Router {
    let router = Router::new().route_service("/grpc.health.v1.Health/{*method}", health(lifecycle, name));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(protocol::DESCRIPTORS)
        .build_v1();
    match reflection {
        Ok(reflection) => router.route_service("/grpc.reflection.v1.ServerReflection/{*method}", reflection),
        Err(error) => {
            tracing::warn!(%error, "reflection is not served");
            router
        }
    }
}

/// Follows the lifecycle for as long as the process lives; the empty name stands for all of it.
fn health(lifecycle: Lifecycle, name: &'static str) -> HealthServer<impl Health> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        let mut states = lifecycle.watch();
        loop {
            let status = match *states.borrow_and_update() {
                State::Ready => ServingStatus::Serving,
                State::Loading | State::Broken | State::Draining => ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(name, status).await;
            if states.changed().await.is_err() {
                return;
            }
        }
    });
    health
}

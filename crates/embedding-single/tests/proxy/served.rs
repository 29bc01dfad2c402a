//! A false service on a port, until it goes away.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use service::{
    lifecycle::Lifecycle,
    server::{Drained, ServerLimits},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: DropGuard,
    served: JoinHandle<Drained>,
}

impl Served {
    /// Serves `app` at `address`; port 0 takes a free one.
    pub(crate) async fn start(app: Router, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let served = tokio::spawn(async move {
            let limits = ServerLimits { drain_max: Duration::ZERO, ..ServerLimits::default() };
            service::server::serve(listener, app, &limits, &Lifecycle::default(), stopped).await
        });
        Self { address, stop: stop.drop_guard(), served }
    }

    /// Goes away: every connection is cut, the port is closed.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.served.await.unwrap();
    }
}

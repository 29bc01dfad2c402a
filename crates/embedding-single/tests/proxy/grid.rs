//! A proxy and its false ml-base, together.

use std::net::SocketAddr;

use clap::Parser;
use embedding_single::{Proxy, args::Args, config::Config};
use service::lifecycle::{Lifecycle, State};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{client::Connection, fake::Fake};

pub(crate) struct Grid {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) stop: DropGuard,
}

impl Grid {
    /// A ready proxy with these arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_before(Fake::start().await, arguments).await
    }

    /// The same in front of this ml-base.
    pub(crate) async fn start_before(fake: Fake, arguments: &[&str]) -> Self {
        let ml_base_url = format!("http://{}", fake.address);
        let (address, lifecycle, stop) = proxy(&ml_base_url, arguments).await;
        lifecycle.wait_for(State::Ready).await;
        Self { fake, address, lifecycle, stop }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }
}

/// A proxy on a free port; it drains when the guard is dropped.
pub(crate) async fn proxy(ml_base_url: &str, arguments: &[&str]) -> (SocketAddr, Lifecycle, DropGuard) {
    serve(Proxy::start(config(ml_base_url, arguments)).unwrap()).await
}

/// What such a proxy runs with; without a shard unless the arguments name one.
pub(crate) fn config(ml_base_url: &str, arguments: &[&str]) -> Config {
    let command = ["embedding-single", "--port", "0", "--drain-max", "0", "--ml-base-url", ml_base_url];
    let names_shard = arguments.iter().any(|argument| ["--shard-port", "--shards"].contains(argument));
    let no_shard: &[&str] = if names_shard { &[] } else { &["--shard-enabled", "false"] };
    Args::try_parse_from(command.iter().chain(no_shard).chain(arguments)).unwrap().try_into().unwrap()
}

/// Serves it.
pub(crate) async fn serve(proxy: Proxy) -> (SocketAddr, Lifecycle, DropGuard) {
    let lifecycle = proxy.lifecycle().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(proxy.serve(listener, shutdown.clone()));
    (address, lifecycle, shutdown.drop_guard())
}

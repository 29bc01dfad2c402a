//! Accepts connections, speaks HTTP/1.1 and HTTP/2 (h2c) on one port, and drains in bounded time.
//!
//! ```text
//!  accept ──▶ nodelay ──▶ first byte in time ──▶ hyper auto (h1 | h2) ──▶ router
//!    │ stop: state Draining, wait drain_delay, GOAWAY, wait at most drain_max, abort what is left
//! ```
//!
//! Own loop instead of `axum::serve` because that has no bound on connections, streams, headers or the drain; own loop
//! instead of tonic's server because that waits for the last connection without limit (hyperium/tonic#1820).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::as_seconds,
    cork::Cork,
    lifecycle::{Lifecycle, State},
};

/// Pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Headers of one request.
const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// A peer that went away without a word is noticed after this long.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds of the socket side of a service.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct ServerLimits {
    /// Connections at once; further ones wait in the listen queue of the system.
    #[arg(long, env = "SUTRA_CONNECTIONS_MAX", default_value_t = 4096, value_name = "COUNT")]
    pub connections_max: usize,
    /// HTTP/2 streams of one connection.
    #[arg(long, env = "SUTRA_STREAMS_MAX", default_value_t = 1024, value_name = "COUNT")]
    pub streams_max: u32,
    /// A client that has not sent a request's headers after this many seconds is disconnected.
    #[arg(long, env = "SUTRA_HEADER_TIMEOUT", default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds", rename = "header_timeout_seconds")]
    pub header_timeout: Duration,
    /// Seconds to go on serving after a stop was asked for, so that a balancer sees `/health` say 503 first.
    #[arg(long, env = "SUTRA_DRAIN_DELAY", default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds", rename = "drain_delay_seconds")]
    pub drain_delay: Duration,
    /// Seconds to wait for requests in flight before they are cut.
    #[arg(long, env = "SUTRA_DRAIN_MAX", default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds", rename = "drain_max_seconds")]
    pub drain_max: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            streams_max: 1024,
            header_timeout: Duration::from_secs(60),
            drain_delay: Duration::ZERO,
            drain_max: Duration::from_secs(10),
        }
    }
}

/// Reads a number of seconds, fractions allowed, for clap.
///
/// # Errors
/// If the argument is not a finite number of seconds from 0 up.
pub fn seconds(argument: &str) -> Result<Duration, String> {
    let number: f64 = argument.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request in flight was answered.
    Whole,
    /// The bound passed first; what was left was cut.
    Cut,
}

/// Binds `address`.
///
/// # Errors
/// With the address in the message, if it cannot be bound.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Serves `app` on `listener` until `shutdown` is cancelled, then drains.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: &ServerLimits,
    lifecycle: &Lifecycle,
    shutdown: CancellationToken,
) -> Drained {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let connections = Connections {
        builder: builder(limits),
        app,
        graceful: GracefulShutdown::new(),
        first_byte_timeout: limits.header_timeout,
        draining: CancellationToken::new(),
        cut: CancellationToken::new(),
    };
    let until_drained = async {
        shutdown.cancelled().await;
        lifecycle.set(State::Draining);
        tokio::time::sleep(limits.drain_delay).await;
    };
    tokio::select! {
        () = until_drained => {}
        () = accept_for_ever(&listener, &permits, &connections) => {}
    }
    drop(listener);
    let Connections { graceful, draining, cut, .. } = connections;
    draining.cancel();
    match timeout(limits.drain_max, graceful.shutdown()).await {
        Ok(()) => Drained::Whole,
        Err(_) => {
            tracing::warn!(drain_max = ?limits.drain_max, "requests were still in flight; cut");
            cut.cancel();
            Drained::Cut
        }
    }
}

fn builder(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .adaptive_window(true)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// What every connection is served with.
struct Connections {
    builder: Builder<TokioExecutor>,
    app: Router,
    graceful: GracefulShutdown,
    first_byte_timeout: Duration,
    /// Cancelled when the drain begins: ends connections that have not said a word.
    draining: CancellationToken,
    /// Cancelled when the drain is over: cuts every connection that is left.
    cut: CancellationToken,
}

async fn accept_for_ever(listener: &TcpListener, permits: &Arc<Semaphore>, connections: &Connections) {
    loop {
        // The semaphore is never closed, so this waits for a free connection and nothing else.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => connections.spawn(stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

impl Connections {
    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        send_at_once(&stream);
        let builder = self.builder.clone();
        let service = TowerToHyperService::new(self.app.clone());
        let watcher = self.graceful.watcher();
        let (draining, cut, first_byte_timeout) =
            (self.draining.clone(), self.cut.clone(), self.first_byte_timeout);
        tokio::spawn(async move {
            let _permit = permit;
            if !speaks_in_time(&stream, first_byte_timeout, &draining).await {
                return;
            }
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(Cork::of_server(stream)), service);
            tokio::select! {
                result = watcher.watch(connection) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended with an error");
                    }
                }
                () = cut.cancelled() => {}
            }
        });
    }
}

/// Without this, Nagle's algorithm and delayed acknowledgements cost an answer of two writes 40 ms.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was refused");
    }
}

/// Waits for the first byte: until then hyper does not know which protocol it is, and has no timer running.
async fn speaks_in_time(stream: &TcpStream, patience: Duration, draining: &CancellationToken) -> bool {
    let mut first = [0];
    tokio::select! {
        peeked = timeout(patience, stream.peek(&mut first)) => matches!(peeked, Ok(Ok(1))),
        () = draining.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_send_at_once() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(!stream.nodelay().unwrap());
        send_at_once(&stream);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn seconds_are_read_with_fractions_and_refused_below_zero() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err() && seconds("inf").is_err());
    }
}

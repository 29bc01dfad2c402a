//! The connection to another service of the grid: one, HTTP/2, opened when it is first used and again when it is lost.

use std::time::Duration;

use axum::http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tonic::transport::{Channel, Endpoint, Error};
use tower::ServiceExt;

use crate::cork::Cork;

/// Less than a caller would wait for an answer: a host that is gone does not refuse.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A whole answer fits, so that it needs no second round trip to be let through.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Of one DATA frame: h2 writes each by itself.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// A connection to `url`. Needs a runtime.
///
/// # Errors
/// If `url` is none that can be connected to.
pub fn connect_lazy(url: &Uri) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(url.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let connector = connector.map_response(|stream| TokioIo::new(Cork::of_client(stream.into_inner())));
    Ok(endpoint.connect_with_connector_lazy(connector))
}

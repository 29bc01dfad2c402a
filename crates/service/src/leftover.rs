//! The rest of a body that a refusal did not read.
//!
//! Over HTTP/1 a client that is still sending does not see an answer that comes early: it sees its connection break. So a
//! refused request's body is read to its end and thrown away, within bounds, before the refusal is sent. HTTP/2 can end
//! one stream without the others and needs none of this.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, Request, Response, Version, header},
};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use protocol::error::ApiError;
use tokio::time::timeout;

use crate::gate::Gate;

/// A body over this is not read to its end: its connection is closed instead.
const DISCARDED_BYTES_MAX: u64 = 64 << 20;
/// A sender has this long to come to its end.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(10);

/// The body as handlers see it; what they leave goes back to the gate.
struct Lent {
    body: Option<Body>,
    leftover: Leftover,
}

type Leftover = Arc<Mutex<Option<Body>>>;

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.leftover.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

/// The gate around everything that may refuse.
#[derive(Debug, Clone, Copy)]
pub struct ReadLeftovers;

impl Gate for ReadLeftovers {
    type Pass = Option<Leftover>;

    fn enter(&self, request: &mut Request<Body>) -> Result<Option<Leftover>, ApiError> {
        if request.version() > Version::HTTP_11 || is_held_back(request.headers()) {
            return Ok(None);
        }
        let leftover = Leftover::default();
        let body = Some(std::mem::take(request.body_mut()));
        *request.body_mut() = Body::new(Lent { body, leftover: leftover.clone() });
        Ok(Some(leftover))
    }

    async fn leave(
        leftover: Option<Leftover>,
        answer: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        let response = answer.await;
        let Some(leftover) = leftover else { return response };
        let body = leftover.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = body.filter(|_| !response.status().is_success()) {
            discard(body).await;
        }
        response
    }
}

/// True where the client waits to be told to send: it will not send after a refusal.
fn is_held_back(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

async fn discard(mut body: Body) {
    if body.size_hint().lower() > DISCARDED_BYTES_MAX {
        return;
    }
    let reading = async {
        let mut seen_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            if seen_bytes > DISCARDED_BYTES_MAX {
                return;
            }
        }
    };
    if timeout(DISCARD_TIME_MAX, reading).await.is_err() {
        tracing::debug!("a refused body did not come to its end in time");
    }
}

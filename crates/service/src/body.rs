//! Reads the body of a request under three bounds: its own size, its time, and the bytes of all bodies at once.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use protocol::error::{ApiError, ErrorCode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes one permit of the budget stands for, so that a budget of gigabytes still fits a semaphore.
const BUDGET_UNIT_BYTES: usize = 1024;

/// Bounds for bodies; clones share the budget.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    bytes_max: usize,
    timeout: Duration,
    budget: Arc<Semaphore>,
}

/// A body in memory; its share of the budget is free again when this is dropped.
#[derive(Debug)]
pub struct BodyBytes {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BodyBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyLimits {
    /// `bytes_max` for one body, `budget_bytes` for all bodies at once, `timeout` for reading one.
    pub fn new(bytes_max: usize, budget_bytes: usize, timeout: Duration) -> Self {
        let units = budget_bytes.max(bytes_max).div_ceil(BUDGET_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { bytes_max, timeout, budget: Arc::new(Semaphore::new(units)) }
    }

    /// Bytes of one body.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Reads the JSON body of `request`.
    ///
    /// # Errors
    /// [`ErrorCode::UnsupportedMedia`] for a compressed or non-JSON body, [`ErrorCode::TooLarge`] over the limit,
    /// [`ErrorCode::RequestTimeout`] for one that does not come, [`ErrorCode::Overloaded`] if the budget is spent.
    pub async fn read_json(&self, request: Request<Body>) -> Result<BodyBytes, ApiError> {
        let announced = announced_bytes(request.headers());
        if announced.is_some_and(|bytes| bytes > self.bytes_max) {
            return Err(self.too_large());
        }
        check_media(request.headers())?;
        let share = self.share(announced.unwrap_or(self.bytes_max))?;
        let bytes = timeout(self.timeout, self.collect(request.into_body())).await.map_err(|_| {
            ApiError::new(
                ErrorCode::RequestTimeout,
                format!("the body did not arrive within {:?}", self.timeout),
            )
        })??;
        Ok(BodyBytes { bytes, _share: share })
    }

    fn share(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        self.budget
            .clone()
            .try_acquire_many_owned(units)
            .map_err(|_| ApiError::new(ErrorCode::Overloaded, "the memory for request bodies is taken"))
    }

    async fn collect(&self, mut body: Body) -> Result<Bytes, ApiError> {
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::new(ErrorCode::Malformed, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if collected.len() + data.len() > self.bytes_max {
                return Err(self.too_large());
            }
            collected.extend_from_slice(&data);
        }
        Ok(collected.freeze())
    }

    fn too_large(&self) -> ApiError {
        ApiError::new(ErrorCode::TooLarge, format!("the body is over the limit of {} bytes", self.bytes_max))
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// JSON, uncompressed. A body without a type is taken for JSON; one that names another type is not, so that a web page
/// cannot have a browser send it without asking first.
fn check_media(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        let message = format!("content-encoding `{encoding}` is not read here: send the body uncompressed");
        return Err(ApiError::new(ErrorCode::UnsupportedMedia, message).at_field("content-encoding"));
    }
    match text(header::CONTENT_TYPE) {
        Some(kind) if !kind.to_ascii_lowercase().contains("json") => {
            let message = format!("content-type `{kind}` is not read here: send application/json");
            Err(ApiError::new(ErrorCode::UnsupportedMedia, message).at_field("content-type"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BodyLimits {
        BodyLimits::new(16, 1024, Duration::from_secs(5))
    }

    fn request(headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
        let builder = headers
            .iter()
            .fold(Request::post("/embed"), |builder, (name, value)| builder.header(*name, *value));
        builder.body(Body::from(body)).unwrap()
    }

    async fn refusal(headers: &[(&str, &str)], body: &'static str) -> ErrorCode {
        limits().read_json(request(headers, body)).await.unwrap_err().code
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_read() {
        let body = limits().read_json(request(&[("content-type", "application/json")], "{}")).await.unwrap();
        assert_eq!(body.as_ref(), b"{}");
    }

    #[tokio::test]
    async fn over_the_limit_is_too_large_with_and_without_a_length() {
        assert_eq!(refusal(&[("content-length", "99999999")], "{}").await, ErrorCode::TooLarge);
        assert_eq!(refusal(&[], "12345678901234567").await, ErrorCode::TooLarge);
    }

    #[tokio::test]
    async fn compressed_and_foreign_bodies_are_refused_by_name() {
        assert_eq!(refusal(&[("content-encoding", "gzip")], "{}").await, ErrorCode::UnsupportedMedia);
        assert_eq!(refusal(&[("content-type", "text/plain")], "{}").await, ErrorCode::UnsupportedMedia);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_times_out() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = limits().read_json(Request::new(never)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestTimeout);
    }

    #[tokio::test]
    async fn the_budget_is_shared_and_given_back() {
        let limits = BodyLimits::new(1024, 1024, Duration::from_secs(5));
        let held = limits.clone().read_json(request(&[], "{}")).await.unwrap();
        let error = limits.read_json(request(&[], "{}")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Overloaded);
        drop(held);
        assert!(limits.read_json(request(&[], "{}")).await.is_ok());
    }
}

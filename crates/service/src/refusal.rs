//! How an error leaves: as JSON with its HTTP status, or, to a gRPC client, as the same HTTP status with an empty body
//! and a `grpc-status`.
//!
//! Invariant: overload and unreadiness are never an HTTP 200. Behind a least-connections balancer a replica that refuses
//! with grpc-status on a 200 looks healthy and fast, and draws all the traffic.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header},
    response::IntoResponse,
};
use protocol::error::{ApiError, ErrorCode};
use tonic::Code;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Seconds after which a refused client may ask again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Which protocol a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Plain HTTP with JSON errors.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Speaks {
    /// Tells by the content type.
    pub fn of<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        match content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            true => Self::Grpc,
            false => Self::Http,
        }
    }
}

/// The answer that says `error` in the client's protocol.
pub fn respond(error: &ApiError, speaks: Speaks) -> Response<Body> {
    let mut response = match speaks {
        Speaks::Http => ([(header::CONTENT_TYPE, "application/json")], error.to_json()).into_response(),
        Speaks::Grpc => grpc_headers(error).into_response(),
    };
    *response.status_mut() = error.code.http_status();
    if error.code.is_retryable() {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if error.code == ErrorCode::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn grpc_headers(error: &ApiError) -> HeaderMap {
    let status = tonic::Status::from(error.clone());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // Percent-encodes the message as gRPC wants it.
    if let Err(error) = status.add_header(&mut headers) {
        tracing::debug!(%error, "a refusal leaves without its message");
    }
    headers
}

/// Gives a gRPC refusal that a handler made (`RESOURCE_EXHAUSTED`, `UNAVAILABLE`) the HTTP status it needs to be seen.
pub fn surface(response: Response<Body>) -> Response<Body> {
    let Some(status) = refused_status(response.headers()) else { return response };
    let (mut parts, _) = response.into_parts();
    parts.status = status;
    parts.headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    Response::from_parts(parts, Body::empty())
}

fn refused_status(headers: &HeaderMap) -> Option<StatusCode> {
    let code = Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes());
    [ErrorCode::Overloaded, ErrorCode::Unavailable]
        .into_iter()
        .find(|refusal| refusal.grpc_code() == code)
        .map(ErrorCode::http_status)
}

/// The fallback of every router: no such path. A gRPC client reads it as `UNIMPLEMENTED`, as its protocol wants.
pub async fn not_found(request: Request<Body>) -> Response<Body> {
    let message = format!("there is no path `{}` here", request.uri().path());
    let speaks = Speaks::of(&request);
    let mut response = respond(&ApiError::new(ErrorCode::NotFound, message), speaks);
    if speaks == Speaks::Grpc {
        response.headers_mut().insert(GRPC_STATUS, HeaderValue::from(Code::Unimplemented as i32));
        response.headers_mut().remove(GRPC_MESSAGE);
    }
    response
}

/// The fallback of every path: it exists, the method does not.
pub async fn method_not_allowed(request: Request<Body>) -> Response<Body> {
    let message = format!("`{}` does not take {}", request.uri().path(), request.method());
    respond(&ApiError::new(ErrorCode::MethodNotAllowed, message), Speaks::of(&request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_refusal_has_a_status_an_empty_body_and_a_grpc_status() {
        let error = ApiError::new(ErrorCode::Overloaded, "no permit is free");
        let response = respond(&error, Speaks::Grpc);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[GRPC_STATUS], "8");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(0));
    }

    #[test]
    fn http_refusal_is_json() {
        let response = respond(&ApiError::new(ErrorCode::Unavailable, "loading"), Speaks::Http);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn refusal_made_inside_grpc_is_surfaced_and_other_errors_are_left() {
        let with_status = |code: Code| {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(GRPC_STATUS, HeaderValue::from(code as i32));
            surface(response).status()
        };
        assert_eq!(with_status(Code::ResourceExhausted), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(with_status(Code::Unavailable), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(with_status(Code::InvalidArgument), StatusCode::OK);
    }
}

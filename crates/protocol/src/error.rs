//! The closed list of what can go wrong at an edge, with its maps to HTTP and to gRPC.
//!
//! Each service keeps its own error enum and maps it to one of these codes; only this file knows status numbers.
//! Extend it thoughtfully: clients branch on these names.

use http::StatusCode;
use serde::Serialize;
use tonic::Code;

/// Why a request was not answered, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, a wrong type, an unknown or missing field, an empty list or text.
    Malformed,
    /// Well-formed, but a value is outside what this service or model allows.
    Invalid,
    /// More texts or bytes than a request may hold.
    TooLarge,
    /// The body is not of a type or encoding that is read here.
    UnsupportedMedia,
    /// The key is missing or wrong.
    Unauthenticated,
    /// No such path or model.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The replica serves another model identity than the caller expects.
    IdentityMismatch,
    /// The client did not send its request in time.
    RequestTimeout,
    /// No permit is free: try again shortly.
    Overloaded,
    /// Loading, draining, broken, or nobody behind answers: try again, here or elsewhere.
    Unavailable,
    /// The deadline passed before the answer was ready.
    DeadlineExceeded,
    /// The fault is ours.
    Internal,
}

impl ErrorCode {
    /// Every code, for tests and documentation.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::Invalid,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::Unauthenticated,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::IdentityMismatch,
        Self::RequestTimeout,
        Self::Overloaded,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The HTTP status that says this.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::IdentityMismatch => StatusCode::CONFLICT,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status that says this.
    pub fn grpc_code(self) -> Code {
        match self {
            Self::Malformed | Self::Invalid | Self::UnsupportedMedia => Code::InvalidArgument,
            Self::TooLarge => Code::OutOfRange,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed => Code::Unimplemented,
            Self::IdentityMismatch => Code::FailedPrecondition,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::DeadlineExceeded | Self::RequestTimeout => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// True where waiting a little and asking again is the right answer; such refusals carry `Retry-After`.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable)
    }

    /// The name text-embeddings-inference clients look for in `error_type`.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::Invalid
            | Self::TooLarge
            | Self::UnsupportedMedia
            | Self::NotFound
            | Self::MethodNotAllowed => "Validation",
            Self::Unauthenticated => "Unauthenticated",
            Self::Overloaded => "Overloaded",
            Self::Unavailable => "Unhealthy",
            Self::IdentityMismatch | Self::DeadlineExceeded | Self::RequestTimeout | Self::Internal => {
                "Backend"
            }
        }
    }
}

/// An error as the client reads it: one sentence, the code, and where it points.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of error this is.
    pub code: ErrorCode,
    /// One sentence that names the field, its value and the limit.
    pub message: String,
    /// The field at fault, as `texts[3]` or `dimensions`.
    pub field: Option<String>,
    /// Index of the text at fault in the request's list.
    pub text_index: Option<usize>,
}

impl ApiError {
    /// An error that points at no field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, text_index: None }
    }

    /// The same error, pointing at `field`.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same error, pointing at the text with this index of the list called `list`.
    #[must_use]
    pub fn at_text(mut self, list: &str, index: usize) -> Self {
        self.field = Some(format!("{list}[{index}]"));
        self.text_index = Some(index);
        self
    }

    /// The JSON body of this error: `error` and `error_type` as text-embeddings-inference has them, and `code`,
    /// `field` and `text_index` for programs.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            error_type: &'a str,
            code: ErrorCode,
            #[serde(skip_serializing_if = "Option::is_none")]
            field: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text_index: Option<usize>,
        }
        let body = Body {
            error: &self.message,
            error_type: self.code.error_type(),
            code: self.code,
            field: self.field.as_deref(),
            text_index: self.text_index,
        };
        serde_json::to_vec(&body).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        Self::new(error.code.grpc_code(), error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_in_both_maps() {
        for code in ErrorCode::ALL {
            assert!(code.http_status().is_client_error() || code.http_status().is_server_error(), "{code:?}");
            assert_ne!(code.grpc_code(), Code::Ok, "{code:?}");
        }
    }

    #[test]
    fn only_refusals_that_pass_ask_for_a_retry() {
        let retryable: Vec<_> = ErrorCode::ALL.into_iter().filter(|code| code.is_retryable()).collect();
        assert_eq!(retryable, [ErrorCode::Overloaded, ErrorCode::Unavailable]);
    }

    #[test]
    fn body_names_field_and_index() {
        let error = ApiError::new(ErrorCode::Malformed, "texts[3] is empty").at_text("texts", 3);
        let body: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(body["error"], "texts[3] is empty");
        assert_eq!(body["code"], "malformed");
        assert_eq!(body["field"], "texts[3]");
        assert_eq!(body["text_index"], 3);
    }
}

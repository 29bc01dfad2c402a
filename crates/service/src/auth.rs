//! One API key, compared in constant time.

use std::{fs, io, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, Request, Response, header},
};
use protocol::error::{ApiError, ErrorCode};
use subtle::ConstantTimeEq;

use crate::{config::Secret, gate::Gate};

/// The key clients must show as `authorization: Bearer KEY`, if there is one; the gate that refuses who does not.
#[derive(Debug, Clone, Default)]
pub struct ApiKey(Option<Arc<Secret>>);

impl ApiKey {
    /// Reads the argument of `--api-key`: the key itself, or `@FILE` for a file that holds it.
    ///
    /// # Errors
    /// If the file cannot be read, or the key is empty.
    pub fn from_argument(argument: Option<&str>) -> io::Result<Self> {
        let Some(argument) = argument else { return Ok(Self(None)) };
        let key = match argument.strip_prefix('@') {
            Some(file) => fs::read_to_string(file)
                .map_err(|error| io::Error::new(error.kind(), format!("`{file}` cannot be read: {error}")))?,
            None => argument.to_owned(),
        };
        match key.trim() {
            "" => Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is empty")),
            key => Ok(Self(Some(Arc::new(Secret::new(key.to_owned()))))),
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.0 else { return true };
        let shown =
            headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| shown.ct_eq(key.expose().as_bytes()).into())
    }
}

impl Gate for ApiKey {
    type Pass = ();

    fn enter(&self, request: &mut Request<Body>) -> Result<(), ApiError> {
        if self.admits(request.headers()) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::Unauthenticated,
            "the API key is missing or wrong: send it as `authorization: Bearer KEY`",
        ))
    }

    async fn leave((): (), answer: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
        answer.await
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn shows(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_the_key_itself_is_admitted() {
        let key = ApiKey::from_argument(Some("open sesame")).unwrap();
        assert!(key.admits(&shows("Bearer open sesame")));
        assert!(!key.admits(&shows("Bearer open sesam")));
        assert!(!key.admits(&shows("open sesame")));
        assert!(!key.admits(&HeaderMap::new()));
    }

    #[test]
    fn without_a_key_everybody_is_admitted() {
        assert!(ApiKey::from_argument(None).unwrap().admits(&HeaderMap::new()));
    }

    #[test]
    fn an_empty_key_and_a_missing_file_are_refused() {
        assert!(ApiKey::from_argument(Some("")).is_err());
        let error = ApiKey::from_argument(Some("@/nowhere/key")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/key"), "{error}");
    }
}

//! The key that a tool sends to a server: as `--api-key` or `API_KEY` has it, until it is a header.
//!
//! Goals: one way to give a key to every tool, and none that shows it in a log or a debug print.
//! Non-goals: checking keys (the services do that, with a type of their own).
//!
//! ```text
//!  KEY or @FILE ─▶ ApiKey ─▶ authorization: Bearer KEY
//! ```

use std::convert::Infallible;
use std::str::FromStr;
use std::{fmt, fs, io};

use hyper::header::HeaderValue;
use thiserror::Error;

/// An API key as given: itself, or `@` and the file that holds it. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct ApiKey(String);

/// Why a key cannot be sent. Never shows the key.
#[derive(Debug, Error)]
pub enum BadKey {
    /// The file cannot be read.
    #[error("`--api-key`: cannot read {path}")]
    File {
        /// As given, without the `@`.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written as a header.
    #[error("`--api-key` holds a character that no header may carry")]
    Character,
}

impl ApiKey {
    /// The value of the `authorization` header, marked as sensitive; none of an empty key. Space around the key is left out.
    ///
    /// # Errors
    /// [`BadKey`], where its file cannot be read or no header may carry it.
    pub fn bearer(self) -> Result<Option<HeaderValue>, BadKey> {
        // An empty variable is as good as none.
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = match self.0.strip_prefix('@') {
            Some(path) => {
                fs::read_to_string(path).map_err(|source| BadKey::File { path: path.to_owned(), source })?
            }
            None => self.0,
        };
        let header = HeaderValue::from_str(&format!("Bearer {}", key.trim()));
        let mut header = header.map_err(|_| BadKey::Character)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl FromStr for ApiKey {
    type Err = Infallible;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Ok(Self(given.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(given: &str) -> Result<Option<HeaderValue>, BadKey> {
        given.parse::<ApiKey>().unwrap().bearer()
    }

    #[test]
    fn key_becomes_a_header_that_is_not_shown() {
        let header = bearer(" secret ").unwrap().unwrap();
        assert_eq!(header, "Bearer secret");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("secret"));
        assert_eq!(format!("{:?}", "secret".parse::<ApiKey>().unwrap()), "ApiKey(…)");
    }

    #[test]
    fn empty_key_is_none() {
        assert!(bearer("").unwrap().is_none());
    }

    #[test]
    fn key_behind_an_at_sign_is_read_from_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        assert_eq!(bearer(&format!("@{}", file.path().display())).unwrap().unwrap(), "Bearer secret");
    }

    #[test]
    fn file_that_is_not_there_and_a_broken_key_are_refused_by_name() {
        let error = bearer("@/no/such/file").unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
        let error = bearer("two\nlines").unwrap_err().to_string();
        assert!(error.contains("no header may carry") && !error.contains("two"), "{error}");
    }
}

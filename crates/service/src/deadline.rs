//! Until when a request is worth answering, as its caller said it.
//!
//! gRPC callers say it in `grpc-timeout`, HTTP callers in `x-request-timeout-ms`; the service's own limit applies to all.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use protocol::error::{ApiError, ErrorCode};
use tokio::time::Instant;

/// Header in which an HTTP caller says how many milliseconds it will wait.
pub const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-request-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits a gRPC time-out may have.
const GRPC_TIMEOUT_DIGITS_MAX: usize = 8;

/// The moment after which nobody waits for this request; a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The deadline of a request that arrived at `now`: what its caller asked for, at most `timeout_max`.
    ///
    /// # Errors
    /// [`ErrorCode::Malformed`] if a time-out header cannot be read.
    pub fn of(headers: &HeaderMap, now: Instant, timeout_max: Duration) -> Result<Self, ApiError> {
        let asked = match (headers.get(GRPC_TIMEOUT), headers.get(TIMEOUT_HEADER)) {
            (Some(value), _) => Some(
                grpc_timeout(value.as_bytes())
                    .ok_or_else(|| unreadable(&GRPC_TIMEOUT, "digits and a unit, as `250m`"))?,
            ),
            (None, Some(value)) => {
                let milliseconds = value.to_str().ok().and_then(|text| text.parse().ok());
                Some(Duration::from_millis(
                    milliseconds
                        .ok_or_else(|| unreadable(&TIMEOUT_HEADER, "a whole number of milliseconds"))?,
                ))
            }
            (None, None) => None,
        };
        Ok(Self(now + asked.map_or(timeout_max, |asked| asked.min(timeout_max))))
    }

    /// Time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

fn unreadable(name: &HeaderName, wanted: &str) -> ApiError {
    ApiError::new(ErrorCode::Malformed, format!("header `{name}` is not {wanted}")).at_field(name.as_str())
}

/// Reads `grpc-timeout`: up to eight digits and one of the units H M S m u n.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > GRPC_TIMEOUT_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn timeout(name: HeaderName, value: &'static str) -> Result<Duration, ApiError> {
        let now = Instant::now();
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        Deadline::of(&headers, now, Duration::from_secs(30)).map(|deadline| deadline.0 - now)
    }

    #[test]
    fn caller_may_ask_for_less_and_not_for_more() {
        assert_eq!(timeout(GRPC_TIMEOUT, "250m").unwrap(), Duration::from_millis(250));
        assert_eq!(timeout(TIMEOUT_HEADER, "40").unwrap(), Duration::from_millis(40));
        assert_eq!(timeout(GRPC_TIMEOUT, "9H").unwrap(), Duration::from_secs(30));
    }

    #[test]
    fn unreadable_time_out_is_refused_by_name() {
        for (name, value) in
            [(GRPC_TIMEOUT, "5"), (GRPC_TIMEOUT, "123456789S"), (GRPC_TIMEOUT, ""), (TIMEOUT_HEADER, "-1")]
        {
            let error = timeout(name.clone(), value).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(name.as_str()));
        }
    }
}

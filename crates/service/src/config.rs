//! From raw arguments to a validated configuration that reports every mistake at once.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use serde::{Serialize, Serializer};

/// Mistakes found while a configuration is validated, each with the flag it belongs to.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes a mistake of `flag`.
    pub fn add(&mut self, flag: &str, message: impl fmt::Display) {
        self.0.push(format!("{flag}: {message}"));
    }

    /// Notes a mistake unless `holds`.
    pub fn require(&mut self, holds: bool, flag: &str, message: impl fmt::Display) {
        if !holds {
            self.add(flag, message);
        }
    }

    /// Resolves `host:port`, or notes why it cannot be.
    pub fn address(&mut self, flag: &str, host: &str, port: u16) -> Option<SocketAddr> {
        match (host, port).to_socket_addrs().map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => Some(address),
            Ok(None) => {
                self.add(flag, format_args!("`{host}` has no address"));
                None
            }
            Err(error) => {
                self.add(flag, format_args!("`{host}` cannot be resolved: {error}"));
                None
            }
        }
    }

    /// The value, or all mistakes at once.
    ///
    /// # Errors
    /// [`ConfigError`] if there was any mistake or the value is missing for one.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(ConfigError(self.0)),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake(s):\n  {}", .0.len(), .0.join("\n  "))]
pub struct ConfigError(Vec<String>);

/// A value that must not be seen: its debug print and its serialized form are `"***"`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Writes a duration as a number of seconds, for `serialize_with`.
///
/// # Errors
/// What the serializer says.
pub fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// A variable of the plan that is not read any more, and what stands in its place.
#[derive(Debug, Clone, Copy)]
pub struct Replaced {
    /// Name of the variable.
    pub variable: &'static str,
    /// One clause that says what replaced it.
    pub by: &'static str,
}

/// Warns about each of `replaced` that is set, so that nobody believes it has an effect.
pub fn warn_of_replaced(replaced: &[Replaced]) {
    for Replaced { variable, by } in replaced {
        if std::env::var_os(variable).is_some() {
            tracing::warn!(variable, "this variable has no effect: {by}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_reported_with_their_flags() {
        let mut problems = Problems::default();
        problems.require(false, "--batch-tokens-max", "is 0, the least is 1");
        problems.add("--device", "`tpu` is not known");
        let message = problems.finish(Some(())).unwrap_err().to_string();
        assert!(
            message.contains("2 mistake(s)") && message.contains("--batch-tokens-max: is 0"),
            "{message}"
        );
        assert!(message.contains("--device: `tpu`"), "{message}");
    }

    #[test]
    fn a_secret_is_seen_nowhere() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }
}

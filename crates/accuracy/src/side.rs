//! What is compared: a precision class to start an ml-base in, or a server that runs.

use std::{fmt, str::FromStr};

use hyper::Uri;
use protocol::inference::PrecisionClass;

/// Every class that a vector can have.
const CLASSES: [PrecisionClass; 4] =
    [PrecisionClass::Float32, PrecisionClass::Bfloat16, PrecisionClass::Float16, PrecisionClass::Int8];

/// One of the two that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// An ml-base of this class, started here.
    Class(PrecisionClass),
    /// The server that answers there.
    Url(Uri),
}

/// Neither a class nor an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SideError {
    #[error("known classes are {}; anything else must be an address that begins with http://", names())]
    UnknownClass,
    #[error("it is no address of the form http://HOST:PORT")]
    Address,
}

fn names() -> String {
    CLASSES.map(PrecisionClass::name).join(", ")
}

impl FromStr for Side {
    type Err = SideError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if let Some(class) = CLASSES.into_iter().find(|class| class.name() == given) {
            return Ok(Self::Class(class));
        }
        if !given.starts_with("http://") {
            return Err(SideError::UnknownClass);
        }
        let uri: Uri = given.trim_end_matches('/').parse().map_err(|_| SideError::Address)?;
        let is_plain = uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/";
        if is_plain { Ok(Self::Url(uri)) } else { Err(SideError::Address) }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => formatter.write_str(class.name()),
            Self::Url(uri) => write!(formatter, "{}", uri.to_string().trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_protocol_is_known_by_its_name() {
        let all: Vec<_> = (1..).map_while(|number| PrecisionClass::try_from(number).ok()).collect();
        assert_eq!(all, CLASSES);
        for class in CLASSES {
            assert_eq!(class.name().parse(), Ok(Side::Class(class)));
            assert_eq!(Side::Class(class).to_string(), class.name());
        }
    }

    #[test]
    fn address_is_read_and_shown_without_a_slash() {
        for given in ["http://127.0.0.1:8887", "http://replica:8887/", "http://[::1]:1"] {
            let side: Side = given.parse().unwrap();
            assert_eq!(side.to_string(), given.trim_end_matches('/'));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for given in ["", "auto", "unspecified", "Float32", "https://host:1", "host:1"] {
            assert_eq!(given.parse::<Side>(), Err(SideError::UnknownClass), "{given}");
        }
        for given in ["http://", "http://host:1/embed", "http://a b"] {
            assert_eq!(given.parse::<Side>(), Err(SideError::Address), "{given}");
        }
    }
}

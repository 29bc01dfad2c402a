//! Why a text has no vector, and how a client reads it.

use protocol::error::{ApiError, ErrorCode};

/// Why a missing text was not computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MissError {
    /// Our queue is full, or ml-base has no permit free.
    #[error("{0}")]
    Overloaded(String),
    /// Nobody answers, or whoever does is not ready.
    #[error("{0}")]
    Unavailable(String),
    /// Not computed in time.
    #[error("the text was not computed in time")]
    DeadlineExceeded,
    /// ml-base serves another identity than the one we know.
    #[error("ml-base serves another model identity now")]
    IdentityMismatch,
    /// ml-base says that this is no text.
    #[error("{0}")]
    NotAText(String),
    /// ml-base says that this text is too long.
    #[error("{0}")]
    TooLong(String),
    /// The vector holds NaN or infinity.
    #[error("the model gives no finite vector for this text")]
    NotFinite,
    /// The worker that computed this text failed.
    #[error("the worker failed at this text: {0}")]
    Worker(String),
    /// What ml-base answered, or what it was asked, is not what was sent.
    #[error("the text or its vector was changed on the way to ml-base or back")]
    Garbled,
    /// ml-base failed as a whole, or its answer cannot be read or contradicts itself: perhaps only this replica, or the way.
    #[error("ml-base answered what cannot be: {0}")]
    Broken(String),
    /// ml-base refused what is right.
    #[error("ml-base answered what it should not: {0}")]
    Wrong(String),
    /// The computation ended without an outcome.
    #[error("the computation was given up")]
    GivenUp,
}

impl MissError {
    /// True where asking once more may help.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Overloaded(_) | Self::Unavailable(_) | Self::Worker(_) | Self::Garbled | Self::Broken(_)
        )
    }

    /// The name in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Overloaded(_) => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::IdentityMismatch => "identity_mismatch",
            Self::NotAText(_) => "not_a_text",
            Self::TooLong(_) => "too_long",
            Self::NotFinite => "not_finite",
            Self::Worker(_) => "worker",
            Self::Garbled => "garbled",
            Self::Broken(_) => "broken",
            Self::Wrong(_) => "wrong",
            Self::GivenUp => "given_up",
        }
    }

    /// What the client reads; an error that is about the text itself names it.
    pub(crate) fn to_api(&self, list: &str, index: usize) -> ApiError {
        let whole = |code| ApiError::new(code, self.to_string());
        let text = |code| ApiError::new(code, format!("`{list}[{index}]`: {self}")).at_text(list, index);
        match self {
            Self::Overloaded(_) => whole(ErrorCode::Overloaded),
            // A second mismatch in a row: the replicas do not agree, which passes once they are all replaced.
            // A line that changes what it carries is no better than one that is cut.
            Self::Unavailable(_) | Self::IdentityMismatch | Self::Garbled => whole(ErrorCode::Unavailable),
            Self::DeadlineExceeded => whole(ErrorCode::DeadlineExceeded),
            Self::NotAText(_) => text(ErrorCode::Malformed),
            Self::TooLong(_) => text(ErrorCode::Invalid),
            Self::NotFinite | Self::Worker(_) => text(ErrorCode::Internal),
            Self::Broken(_) | Self::Wrong(_) | Self::GivenUp => whole(ErrorCode::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_the_text_name_it() {
        let error = MissError::TooLong("600 tokens, the limit is 256".to_owned()).to_api("inputs", 3);
        assert_eq!((error.code, error.text_index), (ErrorCode::Invalid, Some(3)));
        assert_eq!(error.message, "`inputs[3]`: 600 tokens, the limit is 256");
        let error = MissError::Unavailable("nobody answers".to_owned()).to_api("inputs", 3);
        assert_eq!((error.code, error.text_index), (ErrorCode::Unavailable, None));
    }
}

//! One text on its way to a vector: what is asked, what came of it, why not.

use std::time::Duration;

use protocol::{
    error::{ApiError, ErrorCode},
    inference::{ItemStatus, Truncation},
};
use tokio::time::Instant;

/// What is to be embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text, with what goes in front of it.
    Text {
        /// Goes in front of the text; may be empty.
        prompt: String,
        /// The text.
        text: String,
    },
    /// Token ids, special tokens included.
    TokenIds(Vec<u32>),
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub input: Input,
    /// What to do if it is too long.
    pub truncation: Truncation,
    /// After this moment nobody waits for it.
    pub deadline: Instant,
}

/// A vector as the device gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// The pooled vector at full width: (width).
    pub vector: Vec<f32>,
    /// Time it waited for the device.
    pub queue_time: Duration,
    /// Time its batch took.
    pub inference_time: Duration,
}

/// One item's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// What the device gave.
    pub computed: Computed,
    /// Tokens computed, special tokens included.
    pub tokens: usize,
    /// True when the text was cut.
    pub truncated: bool,
}

/// Why one item has no vector. Its neighbours may have theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFailure {
    /// What kind of failure.
    pub status: ItemStatus,
    /// One sentence for people.
    pub message: String,
}

impl ItemFailure {
    /// The item is not something that can be embedded.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: ItemStatus::Invalid, message: message.into() }
    }

    /// The fault is ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { status: ItemStatus::Internal, message: message.into() }
    }

    /// Nobody waits for it any more.
    pub fn deadline_exceeded() -> Self {
        let message = "the deadline passed before the text reached the device".to_owned();
        Self { status: ItemStatus::DeadlineExceeded, message }
    }

    /// The text itself was refused.
    pub fn of_text(error: &ApiError) -> Self {
        let status = if error.code == ErrorCode::Invalid { ItemStatus::TooLong } else { ItemStatus::Invalid };
        Self { status, message: error.message.clone() }
    }

    /// The code this failure has where it fails a whole request.
    pub fn code(&self) -> ErrorCode {
        match self.status {
            ItemStatus::Invalid => ErrorCode::Malformed,
            ItemStatus::TooLong => ErrorCode::Invalid,
            ItemStatus::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            ItemStatus::NotFinite | ItemStatus::Internal | ItemStatus::Ok | ItemStatus::Unspecified => {
                ErrorCode::Internal
            }
        }
    }
}

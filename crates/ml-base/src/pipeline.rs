//! The path of one call, readable in one screen: tokenize, queue, wait for the device.

use std::{sync::Arc, time::Duration};

use engine::TokenIds;
use futures::future::join_all;
use protocol::{
    error::{ApiError, ErrorCode},
    inference::{ItemStatus, Truncation},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    intake::{Intake, Tokenized},
    queue::{Entry, PushError, Queue},
};

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

/// The answer to one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// One for each item, in their order.
    pub items: Vec<Result<Embedded, ItemFailure>>,
    /// Time tokenizing took, waiting for a thread included.
    pub tokenization_time: Duration,
}

impl Answer {
    /// The longest any item waited for the device.
    pub fn queue_time(&self) -> Duration {
        self.longest(|computed| computed.queue_time)
    }

    /// The longest batch any item was in.
    pub fn inference_time(&self) -> Duration {
        self.longest(|computed| computed.inference_time)
    }

    fn longest(&self, time: impl Fn(&Computed) -> Duration) -> Duration {
        self.items.iter().flatten().map(|embedded| time(&embedded.computed)).max().unwrap_or_default()
    }
}

/// Takes calls through intake, queue and device.
#[derive(Debug)]
pub struct Pipeline {
    intake: Intake,
    queue: Arc<Queue>,
}

impl Pipeline {
    /// A pipeline over a running intake and the queue a worker takes from.
    pub fn new(intake: Intake, queue: Arc<Queue>) -> Self {
        Self { intake, queue }
    }

    /// The queue, for its load.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Embeds the items of one call. Dropping the future takes what still waits out of the queue.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] or [`ErrorCode::Unavailable`] if the call as a whole cannot be taken.
    pub async fn embed(&self, items: Vec<Item>) -> Result<Answer, ApiError> {
        let start = Instant::now();
        let deadlines: Vec<Instant> = items.iter().map(|item| item.deadline).collect();
        let tokenized = self.intake.tokenize(items).await;
        let now = Instant::now();
        let (entries, pending): (Vec<_>, Vec<_>) =
            tokenized.into_iter().zip(deadlines).map(|(result, deadline)| enqueue(result, deadline)).unzip();
        self.queue.push(entries.into_iter().flatten().collect(), now).map_err(refused)?;
        let items = join_all(pending.into_iter().map(Pending::wait)).await;
        Ok(Answer { items, tokenization_time: now - start })
    }
}

/// What a call waits for, item by item.
enum Pending {
    Failed(ItemFailure),
    Queued { answer: oneshot::Receiver<Result<Computed, ItemFailure>>, tokens: usize, truncated: bool },
}

fn enqueue(result: Result<Tokenized, ItemFailure>, deadline: Instant) -> (Option<Entry>, Pending) {
    match result {
        Err(failure) => (None, Pending::Failed(failure)),
        Ok(Tokenized { ids, truncated }) => {
            let (reply, answer) = oneshot::channel();
            let tokens = TokenIds::len(&ids);
            (Some(Entry { ids, deadline, reply }), Pending::Queued { answer, tokens, truncated })
        }
    }
}

impl Pending {
    async fn wait(self) -> Result<Embedded, ItemFailure> {
        match self {
            Self::Failed(failure) => Err(failure),
            Self::Queued { answer, tokens, truncated } => {
                let computed =
                    answer.await.unwrap_or_else(|_| Err(ItemFailure::internal("the worker went away")))?;
                Ok(Embedded { computed, tokens, truncated })
            }
        }
    }
}

fn refused(error: PushError) -> ApiError {
    let code = match error {
        PushError::Full { .. } => ErrorCode::Overloaded,
        PushError::Closed => ErrorCode::Unavailable,
    };
    ApiError::new(code, error.to_string())
}

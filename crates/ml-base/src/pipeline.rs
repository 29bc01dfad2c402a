//! The path of one call, readable in one screen: tokenize, queue, wait for the device.

use std::{sync::Arc, time::Duration};

use engine::TokenIds;
use futures::future::join_all;
use protocol::error::{ApiError, ErrorCode};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    intake::{Intake, Tokenized, Tokenizer},
    item::{Computed, Embedded, Item, ItemFailure},
    queue::{Entry, PushError, Queue},
};

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

/// Takes calls of one model through intake, queue and device.
#[derive(Debug)]
pub struct Pipeline {
    intake: Arc<Intake>,
    tokenizer: Arc<Tokenizer>,
    queue: Arc<Queue>,
}

impl Pipeline {
    /// A pipeline over a running intake, the tokenizer of one model, and the queue its worker takes from.
    pub fn new(intake: Arc<Intake>, tokenizer: Tokenizer, queue: Arc<Queue>) -> Self {
        Self { intake, tokenizer: Arc::new(tokenizer), queue }
    }

    /// Embeds the items of one call. Dropping the future takes what still waits out of the queue.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] or [`ErrorCode::Unavailable`] if the call as a whole cannot be taken.
    pub async fn embed(&self, items: Vec<Item>) -> Result<Answer, ApiError> {
        let start = Instant::now();
        let deadlines: Vec<Instant> = items.iter().map(|item| item.deadline).collect();
        let tokenized = self.intake.tokenize(&self.tokenizer, items).await;
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
        PushError::TooLarge { .. } => ErrorCode::TooLarge,
        PushError::Closed => ErrorCode::Unavailable,
    };
    ApiError::new(code, error.to_string())
}

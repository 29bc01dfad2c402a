//! The bounded queue in front of the device; it forms batches.
//!
//! Earliest deadline first. A batch takes entries in that order while they fit into its budget of tokens and texts; an
//! entry that does not fit is passed over for a later one that does, within a window, and keeps its place at the head.
//! Entries whose caller has gone, or whose deadline has passed, are dropped here and never reach the device.
//!
//! Invariants: `tokens` is the sum over `entries`; `tokens` ≤ `tokens_max`; a batch is never empty.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::TokenIds;
use tokio::{sync::oneshot, time::Instant};

use crate::item::{Computed, ItemFailure};

/// Entries looked at beyond those taken, to fill up a batch.
const SKIP_AHEAD_MAX: usize = 32;

/// One text that waits for the device.
#[derive(Debug)]
pub struct Entry {
    /// Its tokens.
    pub ids: TokenIds,
    /// After this moment nobody waits for it.
    pub deadline: Instant,
    /// Where its vector goes; closed when its caller has gone.
    pub reply: oneshot::Sender<Result<Computed, ItemFailure>>,
}

/// Texts to be computed together, with the time each has waited.
#[derive(Debug)]
pub struct FormedBatch {
    /// The entries, never none.
    pub entries: Vec<(Entry, Duration)>,
    /// Sum of their tokens.
    pub tokens: usize,
}

/// Bounds of the queue and of a batch.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Tokens that may wait.
    pub tokens_max: usize,
    /// Tokens of one batch.
    pub batch_tokens_max: usize,
    /// Texts of one batch.
    pub batch_texts_max: usize,
}

/// The queue cannot take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The tokens of the call do not fit beside those waiting.
    #[error("{waiting} tokens wait for the device, {more} more would pass the limit of {tokens_max}")]
    Full {
        /// Tokens waiting.
        waiting: usize,
        /// Tokens of the call.
        more: usize,
        /// The limit.
        tokens_max: usize,
    },
    /// The call would not fit into an empty queue either: waiting does not help.
    #[error("the texts of the call have {tokens} tokens, the limit is {tokens_max} a call")]
    TooLarge {
        /// Tokens of the call.
        tokens: usize,
        /// The limit.
        tokens_max: usize,
    },
    /// The replica is stopping.
    #[error("this replica is stopping")]
    Closed,
}

/// What waits now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Texts.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: BTreeMap<(Instant, u64), (Entry, Instant)>,
    tokens: usize,
    pushed: u64,
    abandoned: u64,
    is_closed: bool,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limits: QueueLimits,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        assert!(limits.batch_tokens_max > 0 && limits.batch_texts_max > 0, "a batch must hold something");
        Self { waiting: Mutex::default(), changed: Condvar::new(), limits }
    }

    /// Adds all entries of a call, or none.
    ///
    /// # Errors
    /// [`PushError`] if they do not fit or the queue is closed.
    pub fn push(&self, entries: Vec<Entry>, now: Instant) -> Result<(), PushError> {
        let mut waiting = self.lock();
        let more = entries.iter().map(|entry| entry.ids.len()).sum::<usize>();
        if waiting.is_closed {
            return Err(PushError::Closed);
        }
        if more > self.limits.tokens_max {
            return Err(PushError::TooLarge { tokens: more, tokens_max: self.limits.tokens_max });
        }
        if waiting.tokens + more > self.limits.tokens_max {
            return Err(PushError::Full {
                waiting: waiting.tokens,
                more,
                tokens_max: self.limits.tokens_max,
            });
        }
        waiting.tokens += more;
        for entry in entries {
            waiting.pushed += 1;
            let place = (entry.deadline, waiting.pushed);
            waiting.entries.insert(place, (entry, now));
        }
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something waits here; false once the queue is closed and empty.
    pub fn wait(&self) -> bool {
        let idle = |waiting: &mut Waiting| waiting.entries.is_empty() && !waiting.is_closed;
        let waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !waiting.entries.is_empty()
    }

    /// Takes a batch of what waits; `None` where nobody waits for it any more.
    pub fn take(&self) -> Option<FormedBatch> {
        let batch = self.lock().form(&self.limits, Instant::now());
        (!batch.entries.is_empty()).then_some(batch)
    }

    /// Takes calls again after [`close`](Self::close).
    pub fn open(&self) {
        self.lock().is_closed = false;
    }

    /// Refuses what comes from now on; what waits is still computed.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until the queue is closed, at most `patience`. True when it is closed.
    pub fn wait_closed(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |waiting| !waiting.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// What waits now.
    pub fn load(&self) -> QueueLoad {
        let waiting = self.lock();
        QueueLoad { texts: waiting.entries.len(), tokens: waiting.tokens }
    }

    /// Texts dropped so far because their caller had gone or their deadline had passed.
    pub fn abandoned(&self) -> u64 {
        self.lock().abandoned
    }

    /// The state is consistent between statements, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn form(&mut self, limits: &QueueLimits, now: Instant) -> FormedBatch {
        self.drop_abandoned(now);
        let mut tokens = 0;
        let mut places = Vec::new();
        let window = limits.batch_texts_max.saturating_add(SKIP_AHEAD_MAX);
        for (place, (entry, _)) in self.entries.iter().take(window) {
            let fits = places.is_empty() || tokens + entry.ids.len() <= limits.batch_tokens_max;
            if fits {
                tokens += entry.ids.len();
                places.push(*place);
            }
            if places.len() == limits.batch_texts_max || tokens >= limits.batch_tokens_max {
                break;
            }
        }
        self.tokens -= tokens;
        let taken = places.iter().filter_map(|place| self.entries.remove(place));
        FormedBatch { entries: taken.map(|(entry, since)| (entry, now - since)).collect(), tokens }
    }

    fn drop_abandoned(&mut self, now: Instant) {
        let is_abandoned = |entry: &Entry| entry.reply.is_closed() || entry.deadline <= now;
        let gone = self.entries.extract_if(.., |_, (entry, _)| is_abandoned(entry));
        for (_, (entry, _)) in gone {
            self.tokens -= entry.ids.len();
            self.abandoned += 1;
            // A caller that is still there hears why; one that has gone does not.
            if entry.reply.send(Err(ItemFailure::deadline_exceeded())).is_err() {
                tracing::trace!("an abandoned text was dropped");
            }
        }
    }
}

#[cfg(test)]
mod tests;

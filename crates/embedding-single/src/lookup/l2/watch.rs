//! Asks the shard every second how it is: that is how a clear by another proxy becomes true here.
//!
//! A clear is true here within two seconds: one to the next question, and less than one for its answer. A proxy that
//! cannot reach the shard learns of it when it can again; until then it serves what L1 holds. A shard that owes a clear
//! (`debt`) is cleared as soon as it answers, before anything else is asked of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::cache::StatsResponse;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    breaker::{Breaker, Outcome},
    debt::Debt,
    shard::{Shard, ShardError},
};
use crate::lookup::l1::L1;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(900);
/// Pauses after a question that was not answered: doubled from the one to the other.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(800);
/// Keys of a lookup until the shard has said how many it takes, and the most that is asked whatever it says.
const KEYS_MAX_AT_FIRST: usize = 256;
const KEYS_MAX: usize = 2048;
/// No shard is ever in this generation.
const UNKNOWN: u64 = 0;

/// What the shard said of itself last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Vectors it holds, of all namespaces.
    pub(crate) entries: u64,
    /// Bytes they take on its disk.
    pub(crate) bytes: u64,
    /// Whether it refuses what it should store.
    pub(crate) degraded: bool,
}

/// L1, as far as clears at the shards go; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    l1: Arc<L1>,
    /// True once any shard has told its generation.
    is_dated: Arc<AtomicBool>,
}

impl Mirror {
    /// Nothing is known of the shards yet.
    pub(super) fn new(l1: Arc<L1>) -> Self {
        Self { l1, is_dated: Arc::default() }
    }

    /// Empties L1, for a shard whose generation is another one than before or, where it `is_first`, was not known.
    fn renew(&self, generation: u64, is_first: bool) {
        // A clear goes to every shard: one that is seen for the first time tells nothing where another is known.
        let was_dated = self.is_dated.swap(true, Ordering::AcqRel);
        if is_first && (was_dated || self.l1.size().entries == 0) {
            return;
        }
        let why =
            if is_first { "the cache shard is seen for the first time" } else { "the namespace was cleared" };
        tracing::info!(generation, why, "L1 is emptied");
        let l1 = self.l1.clone();
        // Freeing a full cache takes long enough to hold up others.
        tokio::task::spawn_blocking(move || l1.clear());
    }
}

/// What is known of one shard.
#[derive(Debug)]
pub(super) struct Watch {
    mirror: Mirror,
    generation: AtomicU64,
    keys_max: AtomicUsize,
    sight: Mutex<Sight>,
    /// Since when it has answered every question.
    answers_since: Mutex<Option<Instant>>,
}

impl Watch {
    /// Knows nothing yet.
    pub(super) fn new(mirror: Mirror) -> Self {
        Self {
            mirror,
            generation: AtomicU64::new(UNKNOWN),
            keys_max: AtomicUsize::new(KEYS_MAX_AT_FIRST),
            sight: Mutex::default(),
            answers_since: Mutex::default(),
        }
    }

    /// Asks until `stop`: every second, and sooner again where nobody answered.
    pub(super) async fn run(
        self: Arc<Self>,
        shard: Shard,
        breaker: Arc<Breaker>,
        debt: Arc<Debt>,
        stop: CancellationToken,
    ) {
        let mut pause = BACKOFF_MIN;
        loop {
            let outcome = match self.ask(&shard, &debt).await {
                Ok(()) => {
                    pause = INTERVAL;
                    Outcome::Answered
                }
                Err(error) => {
                    *self.answers_since() = None;
                    // A shard that starts is found at once, one that stays away is asked little more often than one that is well.
                    pause = if pause == INTERVAL { BACKOFF_MIN } else { (pause * 2).min(BACKOFF_MAX) };
                    Outcome::Failed(error.to_string())
                }
            };
            breaker.probed(outcome);
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn ask(&self, shard: &Shard, debt: &Debt) -> Result<(), ShardError> {
        self.accept(&shard.stats(Instant::now() + TIMEOUT).await?);
        if let Some(due) = debt.due() {
            // L1 holds nothing of this shard since the clear: nobody asked it.
            self.adopt(shard.clear(Instant::now() + TIMEOUT).await?);
            debt.pay(due);
            tracing::info!("a cache shard that missed a clear has been cleared");
        }
        self.answers_since().get_or_insert_with(Instant::now);
        Ok(())
    }

    fn accept(&self, stats: &StatsResponse) {
        self.note(stats.generation);
        if let Some(limits) = &stats.limits {
            self.keys_max.store((limits.keys_max as usize).clamp(1, KEYS_MAX), Ordering::Relaxed);
        }
        let sight =
            Sight { entries: stats.entries, bytes: stats.bytes, degraded: !stats.degraded.is_empty() };
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner) = sight;
    }

    /// Notes the namespace's generation. Another one than before means that somebody cleared it, so L1 is emptied; so
    /// does the first that any shard tells where L1 holds anything, because nobody knows what was cleared before.
    pub(super) fn note(&self, generation: u64) {
        let is_first = self.generation().is_none();
        if self.adopt(generation) {
            self.mirror.renew(generation, is_first);
        }
    }

    /// Notes the generation for a caller who empties L1; true where it is another one than before.
    pub(super) fn adopt(&self, generation: u64) -> bool {
        generation != UNKNOWN && self.generation.swap(generation, Ordering::AcqRel) != generation
    }

    /// The generation; none before the shard has answered.
    pub(super) fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Acquire)).filter(|generation| *generation != UNKNOWN)
    }

    /// Keys of one call.
    pub(super) fn keys_max(&self) -> usize {
        self.keys_max.load(Ordering::Relaxed)
    }

    /// What the shard said of itself last.
    pub(super) fn sight(&self) -> Sight {
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has answered every question; nothing where it did not answer the last one.
    pub(super) fn answering(&self) -> Duration {
        self.answers_since().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn answers_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answers_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

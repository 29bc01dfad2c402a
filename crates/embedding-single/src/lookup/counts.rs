//! Distinct texts by where they were found: for `/cache/stats` since the last clear, for `/metrics` since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{LookupOutcome, Metrics};

/// Hits and misses of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Texts that were there.
    pub(crate) hits: u64,
    /// Texts that were not.
    pub(crate) misses: u64,
}

/// Each level, and both together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// L1: every text that did not bypass it.
    pub(crate) l1: Level,
    /// L2: every text that was looked up there, or would have been. Whoever shares a flight has looked up nothing.
    pub(crate) l2: Level,
    /// Texts that had to be computed, or waited for, and texts that had not.
    pub(crate) total: Level,
}

/// Counts by level.
#[derive(Debug)]
pub(crate) struct Counts {
    l1_hits: AtomicU64,
    l2_hits: AtomicU64,
    coalesced: AtomicU64,
    misses: AtomicU64,
    metrics: Metrics,
}

impl Counts {
    /// Nothing counted yet.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            l1_hits: AtomicU64::default(),
            l2_hits: AtomicU64::default(),
            coalesced: AtomicU64::default(),
            misses: AtomicU64::default(),
            metrics,
        }
    }

    /// Counts one text.
    pub(crate) fn count(&self, outcome: LookupOutcome) {
        self.metrics.lookup(outcome);
        let counter = match outcome {
            LookupOutcome::L1Hit => &self.l1_hits,
            LookupOutcome::L2Hit => &self.l2_hits,
            LookupOutcome::Coalesced => &self.coalesced,
            LookupOutcome::Miss => &self.misses,
            LookupOutcome::Bypass => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All levels at one moment: read one by one, a level could have more hits than the one before it had misses.
    pub(crate) fn levels(&self) -> Levels {
        let [l1_hits, l2_hits, coalesced, misses] = self.read();
        Levels {
            l1: Level { hits: l1_hits, misses: l2_hits + coalesced + misses },
            l2: Level { hits: l2_hits, misses },
            total: Level { hits: l1_hits + l2_hits, misses: coalesced + misses },
        }
    }

    /// Starts counting anew.
    pub(crate) fn reset(&self) {
        for counter in [&self.l1_hits, &self.l2_hits, &self.coalesced, &self.misses] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn read(&self) -> [u64; 4] {
        [&self.l1_hits, &self.l2_hits, &self.coalesced, &self.misses]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

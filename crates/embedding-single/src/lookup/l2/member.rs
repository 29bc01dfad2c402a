//! One shard among the others: its client, and what keeps it from costing more than its share.
//!
//! ```text
//!  look_up ─▶ debt? ─▶ breaker ─▶ shard ── GetMany, within the deadline ─▶ cache-shard
//!  Draft ──▶ write_back (one task) ─────── PutMany ──────────────────────▶ cache-shard
//!            watch (one task) ──────────── Stats, every second ──────────▶ cache-shard
//! ```
//!
//! Invariant: a fault is a miss, and nothing is asked of a shard that owes a clear.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use protocol::cache::SimilarRequest;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Found, ShardState, Sight,
    breaker::{Breaker, Outcome},
    debt::Debt,
    shard::{Searched, Shard, ShardError},
    watch::{Mirror, Watch},
    write_back::{Origin, Room, WriteBack},
};
use crate::{
    key::CacheKey,
    metrics::{L2Call, ShardMetrics},
    served::Model,
};

/// What a clear may take: it is asked for by people, who would rather wait than ask again.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(2);
const MEMO_TIMEOUT: Duration = Duration::from_millis(500);
/// A shard that has just come back may have missed a clear, of which another proxy knows; that proxy clears it within this
/// time.
const SETTLED: Duration = Duration::from_secs(2);

/// A shard of the list. Its tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    name: Arc<str>,
    shard: Shard,
    breaker: Arc<Breaker>,
    watch: Arc<Watch>,
    debt: Arc<Debt>,
    write_back: WriteBack,
    metrics: ShardMetrics,
    /// The memo it was told last.
    told: Mutex<Option<Bytes>>,
    _background: DropGuard,
}

/// What the members of one proxy share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// What a clear of any of them empties.
    pub(super) mirror: Mirror,
    /// Where their vectors wait.
    pub(super) room: Room,
}

impl Member {
    /// Starts watching and writing, until `stop` or until it is dropped. `debt` is what it is owed from before. Needs a
    /// runtime.
    pub(super) fn start(
        shard: Shard,
        shared: &Shared,
        debt: Arc<Debt>,
        metrics: ShardMetrics,
        stop: &CancellationToken,
    ) -> Self {
        let name: Arc<str> = metrics.shard().into();
        let stop = stop.child_token();
        let breaker = Arc::new(Breaker::new(name.clone()));
        let watch = Arc::new(Watch::new(shared.mirror.clone()));
        tokio::spawn(watch.clone().run(shard.clone(), breaker.clone(), debt.clone(), stop.clone()));
        let (room, counted) = (shared.room.clone(), metrics.clone());
        let write_back = WriteBack::start(shard.clone(), watch.clone(), room, counted, stop.clone());
        let told = Mutex::default();
        Self { name, shard, breaker, watch, debt, write_back, metrics, told, _background: stop.drop_guard() }
    }

    /// It has left the list.
    pub(super) fn leave(&self) {
        self.metrics.forget();
    }

    /// `host:port`, as it was configured.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it has of `keys`; whatever it does wrong, a miss.
    pub(super) async fn look_up(
        &self,
        model: &Model,
        keys: &[CacheKey],
        deadline: Instant,
    ) -> Vec<Option<Found>> {
        if self.debt.due().is_some() || !self.breaker.admits() {
            self.metrics.l2_call(L2Call::Skipped);
            return nothing(keys.len());
        }
        let (found, outcome) = self.ask(model, keys, deadline).await;
        self.breaker.note(outcome.map_or(Outcome::Answered, |error| Outcome::Failed(error.to_string())));
        found
    }

    /// The same for keys of another shard, with what is left of its time: never as a trial, and an answer that is late is
    /// not held against it.
    pub(super) async fn look_up_as_second(
        &self,
        model: &Model,
        keys: &[CacheKey],
        deadline: Instant,
    ) -> Vec<Option<Found>> {
        if self.state() == ShardState::Down {
            return nothing(keys.len());
        }
        let (found, outcome) = self.ask(model, keys, deadline).await;
        match outcome {
            Some(ShardError::Late) => {}
            Some(error) => self.breaker.note(Outcome::Failed(error.to_string())),
            None => self.breaker.note(Outcome::Answered),
        }
        found
    }

    /// All keys in as many calls as the shard wants; what was found, and the last error.
    async fn ask(
        &self,
        model: &Model,
        keys: &[CacheKey],
        deadline: Instant,
    ) -> (Vec<Option<Found>>, Option<ShardError>) {
        let start = Instant::now();
        // Read once: the watch may learn another limit while the calls are under way.
        let keys_max = self.watch.keys_max();
        let calls = keys.chunks(keys_max).map(|keys| self.shard.get_many(model, keys, deadline));
        let calls = join_all(calls).await;
        self.metrics.l2_time(start.elapsed());
        let (mut found, mut failed) = (Vec::with_capacity(keys.len()), None);
        for (call, keys) in calls.into_iter().zip(keys.chunks(keys_max)) {
            match call {
                Ok(answer) => {
                    self.metrics.l2_call(L2Call::Answered);
                    self.watch.note(answer.generation);
                    self.metrics.l2_rejected(answer.rejected);
                    found.extend(answer.found);
                }
                Err(error) => {
                    self.metrics.l2_call(error.call());
                    found.extend(nothing(keys.len()));
                    failed = Some(error);
                }
            }
        }
        (found, failed)
    }

    /// What it has that is nearest to the probe of `request`, and how many vectors it compared.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) async fn similar(&self, request: &SimilarRequest, deadline: Instant) -> Searched {
        if self.debt.due().is_some() {
            return Err(ShardError::Unavailable("it owes a clear".to_owned()));
        }
        self.shard.similar(request, deadline).await
    }

    /// Who stores what is computed or read from now on; none where the shard's generation is unknown.
    pub(super) fn origin(&self) -> Option<Origin> {
        Some(Origin { to: self.write_back.clone(), generation: self.watch.generation()? })
    }

    /// Forgets every vector of the namespace. Owed until it is done, so that a shard that is away is cleared before it is
    /// asked again.
    ///
    /// # Errors
    /// Why it may not be forgotten yet.
    pub(super) async fn clear(&self) -> Result<(), ShardError> {
        let due = self.debt.owe();
        self.watch.adopt(self.shard.clear(Instant::now() + CLEAR_TIMEOUT).await?);
        self.debt.pay(due);
        Ok(())
    }

    /// What it is owed, to be kept for a shard of this name.
    pub(super) fn debt(&self) -> &Arc<Debt> {
        &self.debt
    }

    /// Whether what it holds may be copied to another shard.
    pub(super) fn is_settled(&self) -> bool {
        self.watch.answering() >= SETTLED
    }

    /// Keeps `value` by this name, unless that is what it was told last.
    ///
    /// # Errors
    /// Why it may not be kept.
    pub(super) async fn tell(&self, name: &str, value: &Bytes) -> Result<(), ShardError> {
        let is_told = |told: &Mutex<Option<Bytes>>| {
            told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(value)
        };
        if is_told(&self.told) {
            return Ok(());
        }
        self.shard.put_memo(name, value.clone(), Instant::now() + MEMO_TIMEOUT).await?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        Ok(())
    }

    /// What was kept by this name last.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) async fn recall(&self, name: &str) -> Result<Option<Bytes>, ShardError> {
        self.shard.memo(name, Instant::now() + MEMO_TIMEOUT).await
    }

    /// Whether it is asked now.
    pub(super) fn state(&self) -> ShardState {
        if self.debt.due().is_some() { ShardState::Down } else { self.breaker.state() }
    }

    /// What it said of itself last.
    pub(super) fn sight(&self) -> Sight {
        self.watch.sight()
    }

    /// Waits until all vectors that wait now are stored or given up, but no longer than `patience`.
    pub(super) async fn flush(&self, patience: Duration) {
        self.write_back.flush(patience).await;
    }
}

fn nothing(keys: usize) -> Vec<Option<Found>> {
    std::iter::repeat_with(|| None).take(keys).collect()
}

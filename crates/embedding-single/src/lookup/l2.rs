//! L2: vectors in the cache shard, which all proxies share and which outlives them.
//!
//! ```text
//!  misses of L1 ─▶ look_up ─▶ breaker ─▶ shard ── GetMany, within the budget ─▶ cache-shard
//!  computed ─────▶ Draft ──▶ write_back (one task) ── PutMany ────────────────▶ cache-shard
//!                            watch (one task) ─────── Stats, every second ────▶ cache-shard
//!                              └─ generation changed: L1 is emptied
//! ```
//!
//! Invariants: whatever the shard does costs a request at most the budget; a record that is not exactly what was asked for
//! is a miss; what was computed before a clear is not stored after it.
//!
//! It also remembers which models ml-base served last, so that what is cached can be found while ml-base is away.
//!
//! Non-goals: no choice among several shards, no choice among the precision classes that the configuration takes.

mod breaker;
mod shard;
mod watch;
mod write_back;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use prost::Message;
use protocol::inference::InfoResponse;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    breaker::{Breaker, Outcome},
    watch::Watch,
    write_back::Origin,
};
pub(crate) use self::{
    shard::{Shard, ShardError},
    watch::Sight,
    write_back::{Draft, WriteBack},
};
use crate::{
    config::ShardConfig,
    key::CacheKey,
    lookup::l1::{CachedVector, L1},
    metrics::{L2Call, Metrics},
    models::Model,
};

/// What a clear may take: it is asked for by people, who would rather wait than ask again.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the shard keeps which models were served.
const MODELS_MEMO: &str = "models";
const MEMO_TIMEOUT: Duration = Duration::from_millis(500);

/// A vector that the shard had.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// The vector.
    pub(crate) vector: CachedVector,
    /// What is left of its time; more than nothing.
    pub(crate) remaining: Duration,
}

/// What a lookup brought.
#[derive(Debug)]
pub(crate) struct Answer {
    /// One for each key, in their order.
    pub(crate) found: Vec<Option<Found>>,
    /// Who may store what is computed now.
    origin: Option<Origin>,
}

/// Whether the shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardState {
    /// It answers.
    Up,
    /// It does not, and is left alone until it does.
    Down,
}

/// The second level.
#[derive(Debug)]
pub(crate) struct L2 {
    shard: Shard,
    breaker: Arc<Breaker>,
    watch: Arc<Watch>,
    write_back: WriteBack,
    budget: Duration,
    ttl_max: Duration,
    metrics: Metrics,
}

impl L2 {
    /// Starts watching and writing, until `stop`. A generation that is new empties `l1`. Needs a runtime.
    pub(crate) fn start(
        shard: Shard,
        config: &ShardConfig,
        l1: Arc<L1>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let breaker = Arc::new(Breaker::default());
        let watch = Arc::new(Watch::new(l1));
        tokio::spawn(watch.clone().run(shard.clone(), breaker.clone(), stop));
        let write_back =
            WriteBack::start(shard.clone(), watch.clone(), config.write_back_bytes_max, metrics.clone());
        let (budget, ttl_max) = (config.timeout, config.ttl);
        Self { shard, breaker, watch, write_back, budget, ttl_max, metrics }
    }

    /// The vectors of `keys` under `model`. Takes at most the budget, and a fault of the shard is a miss.
    pub(crate) async fn look_up(&self, model: &Model, keys: &[CacheKey]) -> Answer {
        if !self.breaker.admits() {
            self.metrics.l2_call(L2Call::Skipped);
            return self.nothing(keys.len());
        }
        let start = Instant::now();
        let deadline = start + self.budget;
        // Read once: the watch may learn another limit while the calls are under way.
        let keys_max = self.watch.keys_max();
        let calls = keys.chunks(keys_max).map(|keys| self.shard.get_many(model, keys, deadline));
        let calls = join_all(calls).await;
        self.metrics.l2_time(start.elapsed());
        let mut found = Vec::with_capacity(keys.len());
        let mut outcome = Outcome::Answered;
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
                    outcome = Outcome::Failed(error.to_string());
                    found.extend(keys.iter().map(|_| None));
                }
            }
        }
        self.breaker.note(outcome);
        Answer { found, origin: self.origin() }
    }

    fn nothing(&self, keys: usize) -> Answer {
        Answer { found: std::iter::repeat_with(|| None).take(keys).collect(), origin: self.origin() }
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin { to: self.write_back.clone(), generation: self.watch.generation()? })
    }

    /// How long a vector may be kept by a caller who wants `ttl` at most.
    pub(crate) fn ttl(&self, ttl: Option<Duration>) -> Duration {
        ttl.map_or(self.ttl_max, |ttl| ttl.min(self.ttl_max))
    }

    /// Forgets every vector of the namespace, for all proxies. L1 is the caller's to empty.
    ///
    /// # Errors
    /// Why it may not be forgotten.
    pub(crate) async fn clear(&self) -> Result<(), ShardError> {
        let generation = self.shard.clear(Instant::now() + CLEAR_TIMEOUT).await?;
        self.watch.adopt(generation);
        Ok(())
    }

    /// Keeps `served`, for a proxy that starts while ml-base is away.
    ///
    /// # Errors
    /// Why it may not be kept.
    pub(crate) async fn keep_models(&self, served: &InfoResponse) -> Result<(), ShardError> {
        let value = served.encode_to_vec().into();
        self.shard.put_memo(MODELS_MEMO, value, Instant::now() + MEMO_TIMEOUT).await
    }

    /// What was kept last; none where nothing was.
    ///
    /// # Errors
    /// Why it is not known, or cannot be read.
    pub(crate) async fn kept_models(&self) -> Result<Option<InfoResponse>, ShardError> {
        let Some(kept) = self.shard.memo(MODELS_MEMO, Instant::now() + MEMO_TIMEOUT).await? else {
            return Ok(None);
        };
        let read = InfoResponse::decode(kept).map_err(|error| ShardError::Wrong(error.to_string()))?;
        Ok(Some(read))
    }

    /// What the shard said of itself last.
    pub(crate) fn sight(&self) -> Sight {
        self.watch.sight()
    }

    /// Whether the shard is asked now.
    pub(crate) fn state(&self) -> ShardState {
        self.breaker.state()
    }

    /// What stores vectors later; to wait for its end.
    pub(crate) fn write_back(&self) -> &WriteBack {
        &self.write_back
    }
}

impl Answer {
    /// The right to store the vector of `key` for `ttl` once it is computed; none where the shard's generation is unknown.
    pub(crate) fn draft(&self, key: CacheKey, model: &Model, ttl: Duration) -> Option<Draft> {
        let origin = self.origin.clone()?;
        Some(Draft { origin, key, identity: model.identity_bytes, expires: Instant::now() + ttl })
    }
}

//! What the proxy counts, beside what `service` counts for every service.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

const CHUNK_TEXTS_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const L2_CALL_SECONDS_BUCKETS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1];

/// How a text was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupOutcome {
    /// It was in L1.
    L1Hit,
    /// It was in the cache shard.
    L2Hit,
    /// Somebody else's computation answered it.
    Coalesced,
    /// It was sent to ml-base.
    Miss,
    /// It was sent to ml-base because its caller wanted no cache.
    Bypass,
}

/// How a call to the cache shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum L2Call {
    /// Answered.
    Answered,
    /// Not answered within the budget.
    Late,
    /// Nobody there, or not ready.
    Unavailable,
    /// Answered with what cannot be true.
    Wrong,
    /// Not made, because the shard did not answer before.
    Skipped,
}

impl L2Call {
    const ALL: [Self; 5] = [Self::Answered, Self::Late, Self::Unavailable, Self::Wrong, Self::Skipped];

    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Late => "late",
            Self::Unavailable => "unavailable",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of a vector that was to be stored in the cache shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Stored.
    Accepted,
    /// The shard had one already.
    Kept,
    /// The namespace was cleared while it was computed.
    Stale,
    /// The shard would not take it.
    Refused,
    /// Its time was over before it could be stored.
    Expired,
    /// The queue was full.
    NoRoom,
}

impl Written {
    const ALL: [Self; 6] =
        [Self::Accepted, Self::Kept, Self::Stale, Self::Refused, Self::Expired, Self::NoRoom];

    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Kept => "kept",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::NoRoom => "no_room",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Which shard a number is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ShardLabel {
    /// `host:port`.
    pub(crate) shard: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardResultLabel {
    shard: Arc<str>,
    result: &'static str,
}

/// The metrics of one proxy; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    lookups: Family<OutcomeLabel, Counter>,
    l2_calls: Family<ShardResultLabel, Counter>,
    l2_call_seconds: Family<ShardLabel, Histogram, fn() -> Histogram>,
    l2_rejected: Family<ShardLabel, Counter>,
    l2_writes: Family<ShardResultLabel, Counter>,
    l2_second_asks: Counter,
    l2_second_finds: Counter,
    chunk_texts: Histogram,
    calls: Family<ResultLabel, Counter>,
    retries: Counter,
    abandoned: Counter,
}

impl Metrics {
    /// Metrics registered with nobody.
    pub(crate) fn new() -> Self {
        Self {
            lookups: Family::default(),
            l2_calls: Family::default(),
            l2_call_seconds: Family::new_with_constructor(|| Histogram::new(L2_CALL_SECONDS_BUCKETS)),
            l2_rejected: Family::default(),
            l2_writes: Family::default(),
            l2_second_asks: Counter::default(),
            l2_second_finds: Counter::default(),
            chunk_texts: Histogram::new(CHUNK_TEXTS_BUCKETS),
            calls: Family::default(),
            retries: Counter::default(),
            abandoned: Counter::default(),
        }
    }

    /// Registers them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("lookups", "distinct texts looked up, by outcome", self.lookups.clone());
        self.register_l2(registry);
        registry.register("chunk_texts", "texts of a call to ml-base", self.chunk_texts.clone());
        registry.register("ml_base_calls", "calls to ml-base, by result", self.calls.clone());
        registry.register("ml_base_retries", "calls to ml-base that were repeated", self.retries.clone());
        registry.register(
            "abandoned",
            "missing texts nobody waited for any more before they were sent",
            self.abandoned.clone(),
        );
    }

    fn register_l2(&self, registry: &mut Registry) {
        registry.register("l2_calls", "lookups in a cache shard, by result", self.l2_calls.clone());
        registry.register(
            "l2_call_seconds",
            "time a request waited for a cache shard",
            self.l2_call_seconds.clone(),
        );
        registry.register(
            "l2_rejected",
            "records of a cache shard that were not what was asked for",
            self.l2_rejected.clone(),
        );
        registry.register("l2_writes", "vectors for a cache shard, by result", self.l2_writes.clone());
        registry.register(
            "l2_second_asks",
            "texts looked up at the shard that owned them before another joined",
            self.l2_second_asks.clone(),
        );
        registry.register("l2_second_finds", "texts that were found there", self.l2_second_finds.clone());
    }

    /// The metrics of one shard.
    pub(crate) fn of_shard(&self, shard: Arc<str>) -> ShardMetrics {
        ShardMetrics { shard, all: self.clone() }
    }

    /// Counts texts looked up at the second in rank, and those found there.
    pub(crate) fn second(&self, asks: usize, finds: usize) {
        self.l2_second_asks.inc_by(asks as u64);
        self.l2_second_finds.inc_by(finds as u64);
    }

    /// Counts a lookup.
    pub(crate) fn lookup(&self, outcome: LookupOutcome) {
        let outcome = match outcome {
            LookupOutcome::L1Hit => "l1_hit",
            LookupOutcome::L2Hit => "l2_hit",
            LookupOutcome::Coalesced => "coalesced",
            LookupOutcome::Miss => "miss",
            LookupOutcome::Bypass => "bypass",
        };
        self.lookups.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a call with this many texts.
    pub(crate) fn chunk(&self, texts: usize) {
        self.chunk_texts.observe(texts as f64);
    }

    /// Counts the end of a call.
    pub(crate) fn call(&self, result: &'static str) {
        self.calls.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a repeated call.
    pub(crate) fn retry(&self) {
        self.retries.inc();
    }

    /// Counts a miss that was dropped unsent.
    pub(crate) fn abandoned(&self) {
        self.abandoned.inc();
    }
}

/// The metrics of one shard of the cache; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ShardMetrics {
    shard: Arc<str>,
    all: Metrics,
}

impl ShardMetrics {
    /// The shard's name.
    pub(crate) fn shard(&self) -> &str {
        &self.shard
    }

    /// Counts a lookup.
    pub(crate) fn l2_call(&self, call: L2Call) {
        self.all.l2_calls.get_or_create(&self.label(call.name())).inc();
    }

    /// Notes how long a request waited.
    pub(crate) fn l2_time(&self, time: Duration) {
        let label = ShardLabel { shard: self.shard.clone() };
        self.all.l2_call_seconds.get_or_create(&label).observe(time.as_secs_f64());
    }

    /// Counts records that were not what was asked for.
    pub(crate) fn l2_rejected(&self, records: u64) {
        if records > 0 {
            let label = ShardLabel { shard: self.shard.clone() };
            self.all.l2_rejected.get_or_create(&label).inc_by(records);
        }
    }

    /// Counts vectors that were to be stored.
    pub(crate) fn written(&self, written: Written, count: usize) {
        if count > 0 {
            self.all.l2_writes.get_or_create(&self.label(written.name())).inc_by(count as u64);
        }
    }

    /// Shows the shard no more: it has left, and names of those that come and go would add up.
    pub(crate) fn forget(&self) {
        let label = ShardLabel { shard: self.shard.clone() };
        self.all.l2_call_seconds.remove(&label);
        self.all.l2_rejected.remove(&label);
        for call in L2Call::ALL {
            self.all.l2_calls.remove(&self.label(call.name()));
        }
        for written in Written::ALL {
            self.all.l2_writes.remove(&self.label(written.name()));
        }
    }

    fn label(&self, result: &'static str) -> ShardResultLabel {
        ShardResultLabel { shard: self.shard.clone(), result }
    }
}

//! What the proxy counts, beside what `service` counts for every service.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

use crate::lookup::l1::L1;

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The metrics of one proxy; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    lookups: Family<OutcomeLabel, Counter>,
    l2_calls: Family<ResultLabel, Counter>,
    l2_call_seconds: Histogram,
    l2_rejected: Counter,
    l2_writes: Family<ResultLabel, Counter>,
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
            l2_call_seconds: Histogram::new(L2_CALL_SECONDS_BUCKETS),
            l2_rejected: Counter::default(),
            l2_writes: Family::default(),
            chunk_texts: Histogram::new(CHUNK_TEXTS_BUCKETS),
            calls: Family::default(),
            retries: Counter::default(),
            abandoned: Counter::default(),
        }
    }

    /// Registers them, and the size of `l1`.
    pub(crate) fn register(&self, registry: &mut Registry, l1: Arc<L1>) {
        registry.register("lookups", "distinct texts looked up, by outcome", self.lookups.clone());
        registry.register("l2_calls", "lookups in the cache shard, by result", self.l2_calls.clone());
        registry.register(
            "l2_call_seconds",
            "time a request waited for the cache shard",
            self.l2_call_seconds.clone(),
        );
        registry.register(
            "l2_rejected",
            "records of the cache shard that were not what was asked for",
            self.l2_rejected.clone(),
        );
        registry.register("l2_writes", "vectors for the cache shard, by result", self.l2_writes.clone());
        registry.register("chunk_texts", "texts of a call to ml-base", self.chunk_texts.clone());
        registry.register("ml_base_calls", "calls to ml-base, by result", self.calls.clone());
        registry.register("ml_base_retries", "calls to ml-base that were repeated", self.retries.clone());
        registry.register(
            "abandoned",
            "missing texts nobody waited for any more before they were sent",
            self.abandoned.clone(),
        );
        registry.register_collector(Box::new(SizeOfL1(l1)));
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

    /// Counts a lookup in the cache shard.
    pub(crate) fn l2_call(&self, call: L2Call) {
        let result = match call {
            L2Call::Answered => "answered",
            L2Call::Late => "late",
            L2Call::Unavailable => "unavailable",
            L2Call::Wrong => "wrong",
            L2Call::Skipped => "skipped",
        };
        self.l2_calls.get_or_create(&ResultLabel { result }).inc();
    }

    /// Notes how long a request waited for the cache shard.
    pub(crate) fn l2_time(&self, time: Duration) {
        self.l2_call_seconds.observe(time.as_secs_f64());
    }

    /// Counts records that were not what was asked for.
    pub(crate) fn l2_rejected(&self, records: u64) {
        self.l2_rejected.inc_by(records);
    }

    /// Counts vectors that were to be stored.
    pub(crate) fn written(&self, written: Written, count: usize) {
        let result = match written {
            Written::Accepted => "accepted",
            Written::Kept => "kept",
            Written::Stale => "stale",
            Written::Refused => "refused",
            Written::Expired => "expired",
            Written::NoRoom => "no_room",
        };
        if count > 0 {
            self.l2_writes.get_or_create(&ResultLabel { result }).inc_by(count as u64);
        }
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

/// Reads the size when it is asked for, so that no write to the cache has to.
#[derive(Debug)]
struct SizeOfL1(Arc<L1>);

impl Collector for SizeOfL1 {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let size = self.0.size();
        for (name, help, value) in [
            ("l1_entries", "vectors in L1", size.entries),
            ("l1_bytes", "bytes of L1, overhead included", size.bytes),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

//! What the proxy counts, beside what `service` counts for every service.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

use crate::lookup::l1::L1;

const CHUNK_TEXTS_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How a text was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupOutcome {
    /// It was in L1.
    L1Hit,
    /// Somebody else's computation answered it.
    Coalesced,
    /// It was sent to ml-base.
    Miss,
    /// It was sent to ml-base because its caller wanted no cache.
    Bypass,
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
            chunk_texts: Histogram::new(CHUNK_TEXTS_BUCKETS),
            calls: Family::default(),
            retries: Counter::default(),
            abandoned: Counter::default(),
        }
    }

    /// Registers them, and the size of `l1`.
    pub(crate) fn register(&self, registry: &mut Registry, l1: Arc<L1>) {
        registry.register("lookups", "distinct texts looked up, by outcome", self.lookups.clone());
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

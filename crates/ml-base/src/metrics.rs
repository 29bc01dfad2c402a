//! What ml-base counts.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use protocol::inference::ItemStatus;
use service::observe::DURATION_BUCKETS_SECONDS;

use crate::queue::{FormedBatch, Queue};

/// Upper bounds of the histograms that count texts or tokens.
const COUNT_BUCKETS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    texts: Family<StatusLabel, Counter>,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    inference: Histogram,
    queue_delay: Histogram,
}

impl Metrics {
    /// Registers the metrics with `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            texts: Family::default(),
            batch_texts: Histogram::new(COUNT_BUCKETS),
            batch_tokens: Histogram::new(COUNT_BUCKETS),
            inference: Histogram::new(DURATION_BUCKETS_SECONDS),
            queue_delay: Histogram::new(DURATION_BUCKETS_SECONDS),
        };
        registry.register("texts", "texts answered by the device", metrics.texts.clone());
        registry.register("batch_texts", "texts of a batch", metrics.batch_texts.clone());
        registry.register("batch_tokens", "tokens of a batch", metrics.batch_tokens.clone());
        registry.register("inference_seconds", "time a batch took", metrics.inference.clone());
        registry.register(
            "queue_delay_seconds",
            "time a text waited for the device",
            metrics.queue_delay.clone(),
        );
        metrics
    }

    /// A batch leaves the queue.
    pub fn batch_formed(&self, batch: &FormedBatch) {
        self.batch_texts.observe(batch.entries.len() as f64);
        self.batch_tokens.observe(batch.tokens as f64);
        batch.entries.iter().for_each(|(_, waited)| self.queue_delay.observe(waited.as_secs_f64()));
    }

    /// A batch was computed, or failed.
    pub fn batch_computed(&self, inference_time: Duration) {
        self.inference.observe(inference_time.as_secs_f64());
    }

    /// A text has its answer.
    pub fn text_answered(&self, status: ItemStatus) {
        self.texts.get_or_create(&StatusLabel { status: status.as_str_name() }).inc();
    }
}

/// Reads the load of the queue at the moment it is asked.
#[derive(Debug)]
pub struct QueueCollector(pub Arc<Queue>);

impl Collector for QueueCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let load = self.0.load();
        let gauges = [
            ("queue_texts", "texts waiting for the device", load.texts),
            ("queue_tokens", "tokens waiting for the device", load.tokens),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let abandoned = ConstCounter::new(self.0.abandoned());
        let help = "texts dropped before the device because nobody waited for them";
        abandoned.encode(encoder.encode_descriptor("texts_abandoned", help, None, abandoned.metric_type())?)
    }
}

//! What ml-base counts.

use std::time::Duration;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use protocol::inference::ItemStatus;
use service::observe::DURATION_BUCKETS_SECONDS;

use crate::{
    queue::FormedBatch,
    serving::{Served, Serving},
};

/// Upper bounds of the histograms that count texts or tokens.
const COUNT_BUCKETS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Upper bounds of the histogram of loads, seconds.
const LOAD_BUCKETS_SECONDS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0];

/// One of the models of the configuration, so there are few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: String,
    status: &'static str,
}

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    texts: Family<Labels, Counter>,
    batch_texts: Family<ModelLabel, Histogram, fn() -> Histogram>,
    batch_tokens: Family<ModelLabel, Histogram, fn() -> Histogram>,
    inference: Family<ModelLabel, Histogram, fn() -> Histogram>,
    queue_delay: Family<ModelLabel, Histogram, fn() -> Histogram>,
    load: Family<ModelLabel, Histogram, fn() -> Histogram>,
    unloads: Family<ModelLabel, Counter>,
    refused_loads: Family<ModelLabel, Counter>,
}

impl Metrics {
    /// Registers the metrics with `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let counts = Family::new_with_constructor as fn(fn() -> Histogram) -> _;
        let metrics = Self {
            texts: Family::default(),
            batch_texts: counts(new_counts),
            batch_tokens: counts(new_counts),
            inference: counts(new_duration),
            queue_delay: counts(new_duration),
            load: counts(new_load),
            unloads: Family::default(),
            refused_loads: Family::default(),
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
        registry.register("model_load_seconds", "time a model took to load", metrics.load.clone());
        registry.register("model_unloads", "models unloaded", metrics.unloads.clone());
        let help = "loads refused for want of memory, or failed";
        registry.register("model_loads_failed", help, metrics.refused_loads.clone());
        metrics
    }

    /// Those of one model.
    pub fn of_model(&self, id: &str) -> ModelMetrics {
        let label = ModelLabel { model: id.to_owned() };
        ModelMetrics {
            texts: self.texts.clone(),
            batch_texts: self.batch_texts.get_or_create_owned(&label),
            batch_tokens: self.batch_tokens.get_or_create_owned(&label),
            inference: self.inference.get_or_create_owned(&label),
            queue_delay: self.queue_delay.get_or_create_owned(&label),
            load: self.load.get_or_create_owned(&label),
            unloads: self.unloads.get_or_create_owned(&label),
            refused_loads: self.refused_loads.get_or_create_owned(&label),
            model: label.model,
        }
    }
}

fn new_counts() -> Histogram {
    Histogram::new(COUNT_BUCKETS)
}

fn new_duration() -> Histogram {
    Histogram::new(DURATION_BUCKETS_SECONDS)
}

fn new_load() -> Histogram {
    Histogram::new(LOAD_BUCKETS_SECONDS)
}

/// The metrics of one model; clones share them.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    model: String,
    texts: Family<Labels, Counter>,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    inference: Histogram,
    queue_delay: Histogram,
    load: Histogram,
    unloads: Counter,
    refused_loads: Counter,
}

impl ModelMetrics {
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
        let labels = Labels { model: self.model.clone(), status: status.as_str_name() };
        self.texts.get_or_create(&labels).inc();
    }

    /// The model was loaded.
    pub fn loaded(&self, load_time: Duration) {
        self.load.observe(load_time.as_secs_f64());
    }

    /// The model could not be loaded.
    pub fn load_failed(&self) {
        self.refused_loads.inc();
    }

    /// The model was unloaded.
    pub fn unloaded(&self) {
        self.unloads.inc();
    }
}

/// Reads what waits and what is loaded at the moment it is asked.
#[derive(Debug)]
pub struct ModelsCollector(pub Serving);

impl Collector for ModelsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // While nothing is loaded, nothing waits.
        let Ok(replica) = self.0.replica() else { return Ok(()) };
        let mut gauge = |name, help, value: fn(&Served) -> u64| -> Result<(), std::fmt::Error> {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for model in replica.models() {
                let labels = [("model", model.id())];
                let value = i64::try_from(value(model)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        gauge("queue_texts", "texts waiting for the device", |model| model.queue().load().texts as u64)?;
        gauge("queue_tokens", "tokens waiting for the device", |model| model.queue().load().tokens as u64)?;
        gauge("model_loaded", "1 where the model is loaded", |model| u64::from(model.is_loaded()))?;
        gauge("model_memory_bytes", "memory the model is reckoned to take once loaded", Served::need_bytes)?;
        let help = "texts dropped before the device because nobody waited for them";
        let mut family = encoder.encode_descriptor("texts_abandoned", help, None, MetricType::Counter)?;
        for model in replica.models() {
            let labels = [("model", model.id())];
            ConstCounter::new(model.queue().abandoned()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

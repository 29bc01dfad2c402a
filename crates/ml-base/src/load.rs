//! From a name to a model that answers: fetch, verify, map, warm up, on a thread of its own.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::Context;
use engine::{Compute, Engine, EngineConfig, LoadError, RaggedBatch, TokenIds};
use protocol::inference::PrecisionClass;
use service::lifecycle::{Lifecycle, State};
use tokio::{sync::oneshot, time::Instant};
use vector::Normalization;

use crate::{
    args::Dtype,
    config::{Config, Limits},
    intake::{Intake, Tokenizer, TokenizerLimits},
    metrics::Metrics,
    model::{self, LogProgress, ModelFiles},
    pipeline::Pipeline,
    queue::Queue,
    serving::{Serving, Slot},
    worker::{Device, DeviceError, MakeDevice, Worker},
};

/// What a loaded model is connected to.
pub(crate) struct Stands {
    /// Where the model goes once it answers.
    pub(crate) slot: Slot,
    /// Where its work comes from.
    pub(crate) queue: Arc<Queue>,
    /// Ready once it answers.
    pub(crate) lifecycle: Lifecycle,
    /// Where its batches are counted.
    pub(crate) metrics: Metrics,
}

/// Loads the model on a thread of its own, which then waits for the worker. The receiver hears only of failures: that the
/// model cannot be served or, by the sender being dropped, that the worker has ended.
pub(crate) fn start(config: Config, stands: Stands) -> std::io::Result<oneshot::Receiver<anyhow::Error>> {
    let (failed, failure) = oneshot::channel();
    thread::Builder::new().name("loader".to_owned()).spawn(move || match load(config, &stands) {
        Ok(worker) => {
            if worker.join().is_err() {
                tracing::error!("the worker thread panicked outside of a batch");
            }
        }
        Err(error) => {
            if failed.send(error).is_err() {
                tracing::debug!("the model could not be loaded, and nobody waits for it");
            }
        }
    })?;
    Ok(failure)
}

fn load(config: Config, stands: &Stands) -> anyhow::Result<JoinHandle<()>> {
    let start = Instant::now();
    let Config { model, limits, instance_id, .. } = config;
    let files = model::resolve(&model.name, &model.sources, &LogProgress)?;
    let make = make_device(&files, &limits, model.dtype);
    let engine = load_engine(&files, &limits, model.dtype)?;
    let (width, computes_with) = (engine.width(), engine.computes_with());
    let tokens_max = tokens_max(&files, &limits).min(engine.tokens_max());
    let text_limits = TokenizerLimits {
        tokens_max,
        text_bytes_max: limits.text_bytes_max,
        vocabulary: engine.vocabulary(),
    };
    let tokenizer = Tokenizer::load(&files.directory, files.case, text_limits)?;
    warm_up(&engine)?;
    let intake = Intake::start(tokenizer, limits.tokenizer_threads).context("start the tokenizer threads")?;
    let serving = Serving {
        identity: files.identity.to_string(),
        width,
        tokens_max,
        dimensions: model.dimensions,
        precision: precision(engine.compute()),
        pipeline: Pipeline::new(intake, stands.queue.clone()),
        files,
        limits,
        instance_id,
    };
    serving.finish(None, Normalization::Unit).context("--dimensions")?;
    let (id, identity) = (serving.model_id().to_owned(), serving.identity().to_owned());
    let worker = Worker {
        queue: stands.queue.clone(),
        lifecycle: stands.lifecycle.clone(),
        metrics: stands.metrics.clone(),
        make,
    };
    let worker = worker.start(Box::new(engine)).context("start the worker thread")?;
    stands.slot.fill(serving);
    tracing::info!(model = id, identity, width, tokens_max, computes_with, elapsed = ?start.elapsed(), "model loaded");
    stands.lifecycle.set(State::Ready);
    Ok(worker)
}

/// The lower of the model's limit and the edition's.
fn tokens_max(files: &ModelFiles, limits: &Limits) -> usize {
    files.tokens_max.min(limits.tokens_max)
}

fn make_device(files: &ModelFiles, limits: &Limits, dtype: Dtype) -> MakeDevice {
    let (files, limits) = (files.clone(), limits.clone());
    Box::new(move || {
        let engine = load_engine(&files, &limits, dtype).map_err(DeviceError::from)?;
        Ok(Box::new(engine) as Box<dyn Device>)
    })
}

fn load_engine(files: &ModelFiles, limits: &Limits, dtype: Dtype) -> Result<Engine, LoadError> {
    match dtype {
        Dtype::Float32 => load_engine_with(files, limits, Compute::Float32),
        Dtype::Bfloat16 => load_engine_with(files, limits, Compute::Bfloat16),
        Dtype::Auto => match load_engine_with(files, limits, Compute::Bfloat16) {
            Err(LoadError::Tier(_)) => load_engine_with(files, limits, Compute::Float32),
            loaded => loaded,
        },
    }
}

fn precision(compute: Compute) -> PrecisionClass {
    match compute {
        Compute::Float32 | Compute::Candle => PrecisionClass::Float32,
        Compute::Bfloat16 => PrecisionClass::Bfloat16,
    }
}

fn load_engine_with(files: &ModelFiles, limits: &Limits, compute: Compute) -> Result<Engine, LoadError> {
    let config = EngineConfig {
        pooling: files.pooling,
        tokens_max: tokens_max(files, limits),
        compute,
        threads: limits.worker_threads,
    };
    Engine::load(&files.directory, &config)
}

/// One forward pass on every thread: touches each page of the weights, so that the first caller does not pay for it.
fn warm_up(engine: &Engine) -> anyhow::Result<()> {
    let text = TokenIds::new(vec![0; 8])?;
    engine.embed(&RaggedBatch::new([&text; 16])?).context("the first forward pass")?;
    Ok(())
}

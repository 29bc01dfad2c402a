//! From names to models that answer: fetch, verify, describe; then map and warm up the default one, and others when they
//! are wanted.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, bail};
use engine::{Compute, Engine, EngineConfig, Isa, LoadError, Plan, RaggedBatch, TokenIds};
use protocol::inference::PrecisionClass;
use service::lifecycle::{Lifecycle, State};
use tokio::sync::{mpsc, oneshot};
use vector::{Normalization, Widths};

use crate::{
    args::{Dtype, ModelsLoad},
    config::{Config, Limits, ModelConfig},
    intake::{Intake, Tokenizer, TokenizerLimits},
    metrics::Metrics,
    model::{self, LogProgress, ModelFiles},
    pipeline::Pipeline,
    queue::{Queue, QueueLimits},
    serving::{
        Described, Keeper, Loaded, Loader, MemoryLoad, Replica, Served, Serving, Terms, available_bytes,
    },
    turn::Turns,
    worker::{Device, DeviceError, MakeDevice, Worker},
};

/// What loaded models are connected to.
pub(crate) struct Stands {
    /// Where the models go once the default one answers.
    pub(crate) serving: Serving,
    /// Ready once it answers.
    pub(crate) lifecycle: Lifecycle,
    /// Where their batches are counted.
    pub(crate) metrics: Metrics,
}

/// Brings all models up and keeps them. Ends only with the failure that makes the replica unusable.
pub(crate) async fn keep(config: Config, stands: Stands) -> anyhow::Error {
    match bring_up(config, &stands).await {
        Ok((keeper, mut lost)) => {
            stands.lifecycle.set(State::Ready);
            tokio::select! {
                () = keeper.run() => anyhow::anyhow!("the models are not kept any more"),
                _ = lost.recv() => anyhow::anyhow!("a worker thread panicked outside of a batch"),
            }
        }
        Err(error) => error,
    }
}

async fn bring_up(config: Config, stands: &Stands) -> anyhow::Result<(Keeper, mpsc::Receiver<()>)> {
    let Config { model, limits, instance_id, .. } = config;
    let described = described(model.clone(), limits.clone()).await?;
    let (wanted, told) = mpsc::channel(described.len());
    let serve = |(index, described): (usize, Described)| {
        let metrics = stands.metrics.of_model(&described.files.id);
        let queue = Arc::new(Queue::new(queue_limits(&limits)));
        Arc::new(Served::new(described, queue, metrics, index, wanted.clone()))
    };
    let models: Vec<_> = described.into_iter().enumerate().map(serve).collect();
    let (lost_by, lost) = mpsc::channel(1);
    let loader = EngineLoader {
        intake: Arc::new(Intake::start(limits.tokenizer_threads).context("start the tokenizer threads")?),
        turns: Arc::default(),
        lifecycle: stands.lifecycle.clone(),
        limits: limits.clone(),
        lost: lost_by,
    };
    let mut keeper = Keeper::new(models.clone(), Arc::new(loader), terms(&model), told);
    keeper.check_room()?;
    let at_start = match model.load {
        ModelsLoad::FirstUse => 1,
        ModelsLoad::Start => models.len(),
    };
    for (index, model) in models.iter().enumerate().take(at_start) {
        keeper.load(index).await.with_context(|| format!("model {}", model.id()))?;
    }
    stands.serving.fill(Replica::new(models, limits, instance_id));
    Ok((keeper, lost))
}

fn queue_limits(limits: &Limits) -> QueueLimits {
    QueueLimits {
        tokens_max: limits.queue_tokens_max,
        batch_tokens_max: limits.batch_tokens_max,
        batch_texts_max: limits.batch_texts_max,
    }
}

fn terms(model: &ModelConfig) -> Terms {
    // A quarter is left to the system, its page cache and our own queues.
    let share = || available_bytes().map_or(u64::MAX, |available| available / 4 * 3);
    Terms {
        memory_bytes_max: model.memory_bytes_max.unwrap_or_else(share),
        unload_timeout: model.unload_timeout,
    }
}

/// Finds, verifies and describes all models, on a thread of its own: it may wait for the network for minutes, and a stop
/// shall not wait for that.
async fn described(model: ModelConfig, limits: Limits) -> anyhow::Result<Vec<Described>> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("finder".to_owned()).spawn(move || {
        if tell.send(describe_all(&model, &limits)).is_err() {
            tracing::debug!("the models were found, and nobody waits for them");
        }
    })?;
    told.await.context("the search for the models panicked")?
}

fn describe_all(model: &ModelConfig, limits: &Limits) -> anyhow::Result<Vec<Described>> {
    let mut all: Vec<Described> = Vec::with_capacity(1 + model.others.len());
    for name in std::iter::once(&model.name).chain(&model.others) {
        let files = model::resolve(name, &model.sources, &LogProgress)?;
        if all.iter().any(|known| known.files.id == files.id) {
            bail!("--models: {name} is the model {}, which is named already", files.id);
        }
        let described = describe(files, model, limits).with_context(|| format!("model {name}"))?;
        all.push(described);
    }
    Ok(all)
}

fn describe(files: ModelFiles, model: &ModelConfig, limits: &Limits) -> anyhow::Result<Described> {
    let Plan { compute, computes_with, width, tokens_max } = plan(&files, model.dtype, model.isa)?;
    if width != files.width as usize {
        bail!("config.json gives vectors of {width} numbers, its hidden_size is {}", files.width);
    }
    let tokens_max = tokens_max.min(files.tokens_max).min(limits.tokens_max);
    let load = MemoryLoad { compute, threads: limits.threads().most(), tokens_max };
    let described = Described {
        identity: files.identity.to_string(),
        tokens_max,
        dimensions: model.dimensions,
        precision: precision(compute),
        compute,
        isa: model.isa,
        computes_with,
        need_bytes: load.need_bytes(&files),
        files,
    };
    described.finish(None, Widths::Trained, Normalization::Unit).context("--dimensions")?;
    let Described { files, identity, .. } = &described;
    tracing::info!(model = files.id, identity, width = files.width, tokens_max, computes_with, "model found");
    Ok(described)
}

/// What the model will be once its weights are read.
fn plan(files: &ModelFiles, dtype: Dtype, isa: Isa) -> Result<Plan, LoadError> {
    let plan = |compute| Engine::plan(&files.directory, compute, isa);
    match dtype {
        Dtype::Float32 => plan(Compute::Float32),
        Dtype::Bfloat16 => plan(Compute::Bfloat16),
        Dtype::Int8 => plan(Compute::Int8),
        Dtype::Auto => match plan(Compute::automatic(isa)) {
            // Its files decide: float32 where there is one.
            Err(LoadError::OnnxFile { .. }) => match plan(Compute::Float32) {
                Err(LoadError::OnnxFile { .. }) => plan(Compute::Int8),
                planned => planned,
            },
            planned => planned,
        },
    }
}

fn precision(compute: Compute) -> PrecisionClass {
    match compute {
        Compute::Float32 => PrecisionClass::Float32,
        Compute::Bfloat16 => PrecisionClass::Bfloat16,
        Compute::Int8 => PrecisionClass::Int8,
    }
}

/// Loads models onto engines of this process.
struct EngineLoader {
    intake: Arc<Intake>,
    turns: Arc<Turns>,
    lifecycle: Lifecycle,
    limits: Limits,
    /// Told when a worker thread ends that was not to end.
    lost: mpsc::Sender<()>,
}

impl Loader for EngineLoader {
    fn load(&self, model: &Served) -> anyhow::Result<Loaded> {
        let Described { files, tokens_max, .. } = &model.described;
        let config = self.engine_config(&model.described);
        let engine = Engine::load(&files.directory, &config)?;
        let limits = TokenizerLimits {
            tokens_max: *tokens_max,
            text_bytes_max: self.limits.text_bytes_max,
            vocabulary: engine.vocabulary(),
        };
        let tokenizer = Tokenizer::load(&files.directory, files.case, limits)?;
        warm_up(&engine, &self.turns)?;
        tracing::info!(model = model.id(), computes_with = engine.computes_with(), "weights mapped");
        let pipeline = Pipeline::new(self.intake.clone(), tokenizer, model.queue().clone());
        Ok(Loaded { pipeline, worker: self.start_worker(model, config, engine)? })
    }
}

impl EngineLoader {
    fn engine_config(&self, described: &Described) -> EngineConfig {
        EngineConfig {
            pooling: described.files.pooling,
            tokens_max: described.tokens_max,
            compute: described.compute,
            isa: described.isa,
            threads: self.limits.threads(),
        }
    }

    fn start_worker(
        &self,
        model: &Served,
        config: EngineConfig,
        engine: Engine,
    ) -> anyhow::Result<JoinHandle<()>> {
        let directory = model.described.files.directory.clone();
        let make: MakeDevice = Box::new(move || {
            let engine = Engine::load(&directory, &config).map_err(DeviceError::from)?;
            Ok(Box::new(engine) as Box<dyn Device>)
        });
        let worker = Worker {
            queue: model.queue().clone(),
            lifecycle: if model.is_default() { self.lifecycle.clone() } else { Lifecycle::default() },
            metrics: model.metrics().clone(),
            turns: self.turns.clone(),
            make,
            lost: self.lost.clone(),
        };
        worker.start(Box::new(engine)).context("start the worker thread")
    }
}

/// One forward pass on every thread: touches each page of the weights, so that the first caller does not pay for it.
fn warm_up(engine: &Engine, turns: &Turns) -> anyhow::Result<()> {
    let text = TokenIds::new(vec![0; 8])?;
    let _turn = turns.take();
    engine.embed(&RaggedBatch::new([&text; 16])?).context("the first forward pass")?;
    Ok(())
}

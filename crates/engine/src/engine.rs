//! The engine: a loaded model and the threads it runs on.

use std::fmt;
use std::path::Path;

use kernels::Crew;

use crate::batch::RaggedBatch;
use crate::compute::{Compute, Isa, Plan};
use crate::config::Shape;
use crate::division::Division;
use crate::encoder::Encoder;
use crate::error::{EmbedError, LoadError};
use crate::onnx::{self, onnx_files};
#[cfg(feature = "onnx")]
use crate::onnx::{OnnxModel, Sizes};
use crate::pooling::{PooledVectors, Pooling};
use crate::threads::{Threads, Workers};
use crate::weights::Weights;

/// What the caller decides about an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// How a text's vector is made from its tokens.
    pub pooling: Pooling,
    /// Most tokens of one text. Where the model has fewer positions, those are the limit.
    pub tokens_max: usize,
    /// What it is computed with.
    pub compute: Compute,
    /// The instructions for it.
    pub isa: Isa,
    /// Threads that compute. They sleep while there is no batch.
    pub threads: Threads,
}

/// A loaded model. May be shared between threads; concurrent calls share the engine's threads, and may be led by their own.
pub struct Engine {
    backend: Backend,
    compute: Compute,
    pooling: Pooling,
    threads: Threads,
    tokens_max: usize,
    vocabulary: usize,
}

/// What computes hidden states.
enum Backend {
    /// The encoder of this crate, on threads of its own.
    Own { encoder: Box<Encoder>, workers: Workers },
    /// ONNX Runtime, where a model ships only ONNX.
    #[cfg(feature = "onnx")]
    Onnx(OnnxModel),
}

impl Engine {
    /// Loads `config.json` and `model.safetensors` from `model_dir` and starts the engine's threads. A model that ships only
    /// ONNX ([`onnx_files`](crate::onnx_files)) is loaded into ONNX Runtime, where this build has the feature `onnx`.
    ///
    /// # Errors
    /// [`LoadError`] names the file and what of it is missing, damaged or not supported.
    pub fn load(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        if onnx_files(model_dir).is_empty() {
            Self::load_own(model_dir, config)
        } else {
            Self::load_onnx(model_dir, config)
        }
    }

    fn load_own(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let shape = Shape::read(&model_dir.join("config.json"))?;
        let weights = Weights::open(&model_dir.join("model.safetensors"), shape.names)?;
        let encoder = Encoder::load(&shape, &weights, config.compute.packing(config.isa)?)?;
        let workers = Workers::start(config.threads).map_err(LoadError::Threads)?;
        let backend = Backend::Own { encoder: Box::new(encoder), workers };
        Ok(Self::new(backend, config, shape.tokens_max, shape.vocabulary))
    }

    #[cfg(feature = "onnx")]
    fn load_onnx(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let model = OnnxModel::load(model_dir, config)?;
        let Sizes { tokens_max, vocabulary, .. } = *model.sizes();
        Ok(Self::new(Backend::Onnx(model), config, tokens_max, vocabulary))
    }

    #[cfg(not(feature = "onnx"))]
    fn load_onnx(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        Err(onnx::not_built(model_dir, config.compute, config.isa))
    }

    fn new(backend: Backend, config: &EngineConfig, positions: usize, vocabulary: usize) -> Self {
        Self {
            backend,
            compute: config.compute,
            pooling: config.pooling,
            threads: config.threads,
            tokens_max: config.tokens_max.min(positions),
            vocabulary,
        }
    }

    /// What the model in `model_dir` would be if it were loaded with `compute` and `isa`; reads no weights.
    ///
    /// # Errors
    /// [`LoadError`] as [`load`](Self::load) would give it for config.json and this CPU.
    pub fn plan(model_dir: &Path, compute: Compute, isa: Isa) -> Result<Plan, LoadError> {
        if onnx_files(model_dir).is_empty() {
            Plan::new(&Shape::read(&model_dir.join("config.json"))?, compute, isa)
        } else {
            onnx::plan(model_dir, compute, isa)
        }
    }

    /// Values per vector.
    pub fn width(&self) -> usize {
        match &self.backend {
            Backend::Own { encoder, .. } => encoder.width(),
            #[cfg(feature = "onnx")]
            Backend::Onnx(model) => model.sizes().hidden,
        }
    }

    /// What it computes with.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The tier of the kernels that it computes with, or `onnxruntime`.
    pub fn computes_with(&self) -> &'static str {
        match &self.backend {
            Backend::Own { encoder, .. } => Compute::instructions(encoder.packing()),
            #[cfg(feature = "onnx")]
            Backend::Onnx(_) => onnx::ONNX_RUNTIME,
        }
    }

    /// Most tokens of one text: the lower of the configured limit and the model's positions.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Number of token ids the model knows; ids start at 0.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Computes one vector per text, in the order of the batch. Blocks until all are there.
    ///
    /// # Errors
    /// [`EmbedError::TokenOutOfVocabulary`] and [`EmbedError::TooLong`] before anything is computed;
    /// [`EmbedError::Panicked`] and [`EmbedError::Onnx`] fail this batch only.
    pub fn embed(&self, batch: &RaggedBatch) -> Result<PooledVectors, EmbedError> {
        self.check(batch)?;
        let vectors = match &self.backend {
            Backend::Own { encoder, workers } => self.embed_own(encoder, workers, batch)?,
            #[cfg(feature = "onnx")]
            Backend::Onnx(model) => self.embed_onnx(model, batch)?,
        };
        Ok(PooledVectors::new(self.width(), vectors))
    }

    fn embed_own(
        &self,
        encoder: &Encoder,
        workers: &Workers,
        batch: &RaggedBatch,
    ) -> Result<Vec<f32>, EmbedError> {
        let Division { together, apart } = Division::new(batch, self.threads.sure);
        let mut vectors = vec![0.0; batch.texts() * self.width()];
        for piece in together {
            let found = workers.together(|crew| self.pass(encoder, &piece.batch, crew))?;
            self.put(&piece.texts, &found, &mut vectors);
        }
        let found = workers.run(&apart, |piece, crew| self.pass(encoder, &piece.batch, crew))?;
        for (piece, found) in apart.iter().zip(found) {
            self.put(&piece.texts, &found, &mut vectors);
        }
        Ok(vectors)
    }

    #[cfg(feature = "onnx")]
    fn embed_onnx(&self, model: &OnnxModel, batch: &RaggedBatch) -> Result<Vec<f32>, EmbedError> {
        let mut vectors = vec![0.0; batch.texts() * self.width()];
        model.forward(batch, |text, alone, hidden| {
            let mut vector = Vec::with_capacity(self.width());
            self.pooling.pool(hidden, alone, self.width(), &mut vector);
            self.put(&[text], &vector, &mut vectors);
        })?;
        Ok(vectors)
    }

    /// Some texts through the whole encoder: `(texts, width)`.
    fn pass(&self, encoder: &Encoder, part: &RaggedBatch, crew: &Crew) -> Vec<f32> {
        let mut vectors = Vec::with_capacity(part.texts() * self.width());
        let pool = |hidden: &[f32]| self.pooling.pool(hidden, part, self.width(), &mut vectors);
        encoder.forward(part, crew, pool);
        vectors
    }

    /// Puts what was found for `texts` to their places in `vectors` `(all texts, width)`.
    fn put(&self, texts: &[usize], found: &[f32], vectors: &mut [f32]) {
        let width = self.width();
        for (text, found) in texts.iter().zip(found.chunks_exact(width)) {
            vectors[text * width..][..width].copy_from_slice(found);
        }
    }

    fn check(&self, batch: &RaggedBatch) -> Result<(), EmbedError> {
        let (tokens, tokens_max) = (batch.longest(), self.tokens_max);
        if tokens > tokens_max {
            return Err(EmbedError::TooLong { tokens, tokens_max });
        }
        let vocabulary = self.vocabulary;
        match batch.ids().iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(EmbedError::TokenOutOfVocabulary { id, vocabulary }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("computes_with", &self.computes_with())
            .field("width", &self.width())
            .field("pooling", &self.pooling)
            .field("tokens_max", &self.tokens_max)
            .field("vocabulary", &self.vocabulary)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

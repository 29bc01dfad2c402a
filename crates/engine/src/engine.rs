//! The engine: a loaded model and the threads it runs on.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use kernels::Crew;

use crate::batch::RaggedBatch;
use crate::compute::{Compute, Isa, Plan};
use crate::config::Shape;
use crate::division::Division;
use crate::encoder::Encoder;
use crate::error::{EmbedError, LoadError};
use crate::pooling::{PooledVectors, Pooling};
use crate::threads::Workers;
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
    pub threads: NonZeroUsize,
}

/// A loaded model. May be shared between threads; concurrent calls share the engine's threads.
pub struct Engine {
    encoder: Encoder,
    compute: Compute,
    pooling: Pooling,
    tokens_max: usize,
    vocabulary: usize,
    workers: Workers,
}

impl Engine {
    /// Loads `config.json` and `model.safetensors` from `model_dir` and starts the engine's threads.
    ///
    /// # Errors
    /// [`LoadError`] names the file and what of it is missing, damaged or not supported.
    pub fn load(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let shape = Shape::read(&model_dir.join("config.json"))?;
        let weights = Weights::open(&model_dir.join("model.safetensors"), shape.names)?;
        Ok(Self {
            encoder: Encoder::load(&shape, &weights, config.compute.packing(config.isa)?)?,
            compute: config.compute,
            pooling: config.pooling,
            tokens_max: config.tokens_max.min(shape.tokens_max),
            vocabulary: shape.vocabulary,
            workers: Workers::start(config.threads).map_err(LoadError::Threads)?,
        })
    }

    /// What the model in `model_dir` would be if it were loaded with `compute` and `isa`; reads no weights.
    ///
    /// # Errors
    /// [`LoadError`] as [`load`](Self::load) would give it for config.json and this CPU.
    pub fn plan(model_dir: &Path, compute: Compute, isa: Isa) -> Result<Plan, LoadError> {
        Plan::new(&Shape::read(&model_dir.join("config.json"))?, compute, isa)
    }

    /// Values per vector.
    pub fn width(&self) -> usize {
        self.encoder.width()
    }

    /// What it computes with.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The tier of the kernels that it computes with.
    pub fn computes_with(&self) -> &'static str {
        Compute::instructions(self.encoder.packing())
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
    /// [`EmbedError::Panicked`] fails this batch only.
    pub fn embed(&self, batch: &RaggedBatch) -> Result<PooledVectors, EmbedError> {
        self.check(batch)?;
        let Division { together, apart } = Division::new(batch, self.workers.threads());
        let mut vectors = vec![0.0; batch.texts() * self.width()];
        for piece in together {
            let found = self.workers.together(|crew| self.pass(&piece.batch, crew))?;
            self.put(&piece.texts, &found, &mut vectors);
        }
        let found = self.workers.run(&apart, |piece| self.pass(&piece.batch, &Crew::new(1)))?;
        for (piece, found) in apart.iter().zip(found) {
            self.put(&piece.texts, &found, &mut vectors);
        }
        Ok(PooledVectors::new(self.width(), vectors))
    }

    /// Some texts through the whole encoder: `(texts, width)`.
    fn pass(&self, part: &RaggedBatch, crew: &Crew) -> Vec<f32> {
        let mut vectors = Vec::with_capacity(part.texts() * self.width());
        let pool = |hidden: &[f32]| self.pooling.pool(hidden, part, self.width(), &mut vectors);
        self.encoder.forward(part, crew, pool);
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
            .field("threads", &self.workers.threads())
            .finish_non_exhaustive()
    }
}

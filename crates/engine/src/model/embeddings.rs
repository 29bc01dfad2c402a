//! The sum of word, position and token-type embeddings, then a norm.

use candle_core::{Device, Result, Tensor};

use super::ops::read;
use super::rows::Norm;
use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::error::LoadError;
use crate::weights::Weights;

/// Embedding tables.
pub(super) struct Embeddings {
    /// `(vocabulary, hidden)`
    words: Tensor,
    /// `(positions, hidden)`. Every text is of token type 0, so that row is added in at load.
    positions: Tensor,
    norm: Norm,
    hidden: usize,
}

impl Embeddings {
    pub(super) fn load(config: &Shape, weights: &Weights) -> std::result::Result<Self, LoadError> {
        let hidden = config.hidden;
        let table = |name: &str, rows| {
            weights.tensor(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden])
        };
        let first_type = table("token_type", config.token_types)?.narrow(0, 0, 1)?;
        Ok(Self {
            words: table("word", config.vocabulary)?,
            positions: table("position", config.tokens_max)?.broadcast_add(&first_type)?,
            norm: Norm::load(config, weights, "embeddings.LayerNorm")?,
            hidden,
        })
    }

    /// Embeds packed ids as `(tokens, hidden)`; positions begin at 0 in every text.
    pub(super) fn forward(&self, batch: &RaggedBatch) -> Result<Tensor> {
        let embedded = read(&self.words, |words| {
            read(&self.positions, |positions| self.embed(batch, words, positions))
        })??;
        Tensor::from_vec(embedded, (batch.tokens(), self.hidden), &Device::Cpu)
    }

    fn embed(&self, batch: &RaggedBatch, words: &[f32], positions: &[f32]) -> Vec<f32> {
        let width = self.hidden;
        let mut embedded = Vec::with_capacity(batch.tokens() * width);
        for range in batch.ranges() {
            for (&id, position) in batch.ids()[range].iter().zip(positions.chunks_exact(width)) {
                let word = &words[id as usize * width..][..width];
                embedded.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        self.norm.apply(&mut embedded);
        embedded
    }
}

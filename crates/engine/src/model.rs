//! The BERT encoder over packed tokens: embeddings, then layers, every tensor `(tokens, …)` with no batch dimension.

mod embeddings;
mod layer;

mod attention;
mod linear;

mod ops;
mod rows;

use candle_core::{Result, Tensor};

use crate::batch::RaggedBatch;
use crate::config::{Counting, Shape};
use crate::error::LoadError;
use crate::weights::Weights;
use embeddings::Embeddings;
use layer::Layer;
pub(crate) use ops::read;

/// A loaded encoder; read-only, so any number of threads may run it at once.
pub(crate) struct BertEncoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    width: usize,
}

impl BertEncoder {
    pub(crate) fn load(config: &Shape, weights: &Weights) -> std::result::Result<Self, LoadError> {
        let layers = (0..config.layers.len()).map(|index| Layer::load(config, weights, index));
        Ok(Self {
            embeddings: Embeddings::load(config, weights)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            width: config.hidden,
        })
    }

    /// True for BERT and what differs from it in sizes only.
    pub(crate) fn computes(config: &Shape) -> bool {
        let counting = config.positions.map(|positions| positions.counting);
        matches!(counting, Some(Counting::FromZero)) && config.token_types > 0
    }

    /// Values per hidden state.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Hidden states `(tokens, hidden)` of the last layer. Ids are within the vocabulary, texts within the positions.
    pub(crate) fn forward(&self, batch: &RaggedBatch) -> Result<Tensor> {
        let embedded = self.embeddings.forward(batch)?;
        self.layers.iter().try_fold(embedded, |hidden, layer| layer.forward(hidden, batch))
    }
}

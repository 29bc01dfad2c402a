//! The encoder over packed tokens: weights packed once, every pass in buffers that are used again.
//!
//! ```text
//!  ids ─▶ rows (tokens, hidden) f32, the residual stream ◀──────────── + ◀────────────────────── + ◀─┐
//!           │ norm                                                     │                         │   │ × layers
//!           └─▶ activations ─▶ qkv, turned ─▶ attention per text ─▶ linear ─▶ norm ─▶ up, gate ─▶ down ─▶ norm
//! ```
//! What differs between kinds of models is data from [`Shape`]: which norms touch the stream, what a product is followed
//! by, what a head sees. No stage asks which kind it is.

mod buffers;
mod embeddings;
mod rotary;

mod attention;
mod feed_forward;
mod layer;
mod norm;

// From the tensors of a file to packed weights.
mod columns;
mod stacked;

#[cfg(test)]
mod golden_tests;

use std::sync::{Mutex, PoisonError};

use kernels::{Crew, RelativeBias};

use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::error::LoadError;
use crate::weights::Weights;
use attention::Scoring;
use buffers::{Buffers, Sizes};
use embeddings::Embeddings;
use layer::Layer;
use rotary::Angles;

pub(crate) use stacked::{Packing, WeightType};

/// A loaded encoder; any number of threads may run it at once, each with buffers of its own.
pub(crate) struct Encoder {
    packing: Packing,
    sizes: Sizes,
    embeddings: Embeddings,
    angles: Vec<Angles>,
    scoring: Scoring,
    layers: Vec<Layer>,
    /// Buffers that no pass uses now.
    buffers: Mutex<Vec<Buffers>>,
}

impl Encoder {
    /// Packs the weights.
    pub(crate) fn load(shape: &Shape, weights: &Weights, packing: Packing) -> Result<Self, LoadError> {
        let tier = packing.tier;
        let relative = shape.relative.map(|buckets| attention::relative_bias(shape, buckets, weights));
        let relative: Option<RelativeBias> = relative.transpose()?;
        let layers = (0..shape.layers.len()).map(|index| Layer::load(shape, weights, packing, index));
        Ok(Self {
            packing,
            sizes: Sizes::of(shape),
            embeddings: Embeddings::load(shape, weights, tier)?,
            angles: shape.rotaries.iter().map(|rotary| Angles::new(*rotary, shape)).collect(),
            scoring: Scoring::new(shape, relative),
            layers: layers.collect::<Result<_, _>>()?,
            buffers: Mutex::default(),
        })
    }

    /// Values per hidden state.
    pub(crate) fn width(&self) -> usize {
        self.sizes.hidden
    }

    /// How its weights are packed.
    pub(crate) fn packing(&self) -> Packing {
        self.packing
    }

    /// Calls `pool` with the hidden states `(tokens, hidden)` of the last layer. Ids are within the vocabulary, texts
    /// within the positions. The calling thread leads `crew`; the result does not depend on how many follow.
    pub(crate) fn forward<R>(&self, batch: &RaggedBatch, crew: &Crew, pool: impl FnOnce(&[f32]) -> R) -> R {
        let mut buffers = self.take_buffers(batch.tokens());
        let mut scratches = buffers.take_scratches(self.packing.tier, &self.sizes, crew.most());
        crew.lead(&mut scratches, |team| {
            self.embeddings.forward(batch, &mut buffers, team);
            for (angles, to) in self.angles.iter().zip(&mut buffers.angles) {
                angles.fill(&buffers.lengths, to);
            }
            for layer in &self.layers {
                layer.forward(&self.scoring, &mut buffers, team);
            }
        });
        buffers.put_scratches(scratches);
        let pooled = pool(&buffers.rows);
        // A pass that panics does not give its buffers back.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        pooled
    }

    fn take_buffers(&self, tokens: usize) -> Buffers {
        let taken = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fitting = taken.filter(|buffers| buffers.fit(tokens));
        fitting.unwrap_or_else(|| Buffers::new(self.packing.tier, &self.sizes, tokens))
    }
}

//! One encoder layer: attention and a feed-forward block, each added to the residual stream, each followed by a norm.
//!
//! A model whose norms stand in front of its blocks is the same with its norms counted from the other side: what follows
//! a block is the norm in front of the next one.

use kernels::Team;

use super::attention::{Attention, Scoring};
use super::buffers::Buffers;
use super::feed_forward::FeedForward;
use super::norm::Norm;
use super::stacked::Packing;
use crate::config::{NormPlace, Shape};
use crate::error::LoadError;
use crate::weights::Weights;

/// Weights of one layer.
pub(super) struct Layer {
    attention: Attention,
    middle: Norm,
    feed_forward: FeedForward,
    end: Norm,
}

impl Layer {
    pub(super) fn load(
        shape: &Shape,
        weights: &Weights,
        packing: Packing,
        index: usize,
    ) -> Result<Self, LoadError> {
        let names = shape.names;
        let place = shape.norms;
        let norm = |name: &str, index: usize| {
            Norm::load(shape, weights, &format!("{}{index}.{name}", names.layer), place)
        };
        let (middle, end) = match place {
            NormPlace::AfterBlock => (norm(names.attention_norm, index)?, norm(names.down_norm, index)?),
            NormPlace::BeforeBlock if index + 1 < shape.layers.len() => {
                (norm(names.down_norm, index)?, norm(names.attention_norm, index + 1)?)
            }
            NormPlace::BeforeBlock => {
                let last = Norm::load(shape, weights, names.final_norm, NormPlace::AfterBlock)?;
                (norm(names.down_norm, index)?, last)
            }
        };
        Ok(Self {
            attention: Attention::load(shape, weights, packing, index)?,
            middle,
            feed_forward: FeedForward::load(shape, weights, packing, index)?,
            end,
        })
    }

    /// From the normed rows of the layer before to those of this one.
    pub(super) fn forward(&self, scoring: &Scoring, buffers: &mut Buffers, team: &mut Team<'_>) {
        self.attention.forward(scoring, buffers, team);
        self.middle.apply(&mut buffers.rows, &mut buffers.normed, team);
        self.feed_forward.forward(buffers, team);
        self.end.apply(&mut buffers.rows, &mut buffers.normed, team);
    }
}

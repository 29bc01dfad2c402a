//! One encoder layer: attention and a feed-forward block, each with a residual and a norm after it.

use candle_core::{Result, Tensor};

use super::attention::Attention;
use super::linear::{Epilogue, Linear};
use super::rows::Norm;
use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::error::LoadError;
use crate::weights::Weights;

/// Weights of one layer.
pub(super) struct Layer {
    attention: Attention,
    attention_out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

impl Layer {
    pub(super) fn load(
        config: &Shape,
        weights: &Weights,
        index: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Self {
            attention: Attention::load(config, weights, &name("attention.self"))?,
            attention_out: Linear::load(weights, &[&name("attention.output.dense")], hidden, hidden)?,
            attention_norm: Norm::load(config, weights, &name("attention.output.LayerNorm"))?,
            up: Linear::load(weights, &[&name("intermediate.dense")], hidden, intermediate)?,
            down: Linear::load(weights, &[&name("output.dense")], intermediate, hidden)?,
            down_norm: Norm::load(config, weights, &name("output.LayerNorm"))?,
        })
    }

    /// `(tokens, hidden)` to `(tokens, hidden)`.
    pub(super) fn forward(&self, hidden: Tensor, batch: &RaggedBatch) -> Result<Tensor> {
        let context = self.attention.forward(&hidden, batch)?;
        let attended = self
            .attention_out
            .forward(&context, Epilogue::Residual { add: &hidden, norm: &self.attention_norm })?;
        let raised = self.up.forward(&attended, Epilogue::Gelu)?;
        self.down.forward(&raised, Epilogue::Residual { add: &attended, norm: &self.down_norm })
    }
}

//! Self-attention: every text attends to its own tokens only, one text and a few heads at a time.

use candle_core::{D, Device, IndexOp, Result, Tensor};

use super::linear::{Epilogue, Linear};
use super::ops::{Softmax, read};
use crate::batch::RaggedBatch;
use crate::config::Shape;
use crate::error::LoadError;
use crate::weights::Weights;

/// Queries, keys and values of all heads, as one product.
pub(super) struct Attention {
    /// `(hidden)` to `(3 · hidden)`: queries, keys, values.
    qkv: Linear,
    heads: usize,
    head_width: usize,
}

impl Attention {
    pub(super) fn load(
        config: &Shape,
        weights: &Weights,
        name: &str,
    ) -> std::result::Result<Self, LoadError> {
        let names = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        Ok(Self {
            qkv: Linear::load(weights, &names.each_ref().map(String::as_str), config.hidden, config.hidden)?,
            heads: config.heads,
            head_width: config.hidden / config.heads,
        })
    }

    /// `(tokens, hidden)` to the attended values `(tokens, hidden)`, heads side by side.
    pub(super) fn forward(&self, hidden: &Tensor, batch: &RaggedBatch) -> Result<Tensor> {
        let (tokens, width) = (batch.tokens(), self.heads * self.head_width);
        let qkv = self.qkv.forward(hidden, Epilogue::None)?;
        let qkv = qkv.reshape((tokens, 3, self.heads, self.head_width))?;
        let mut context = Vec::with_capacity(tokens * width);
        for range in batch.ranges() {
            let text = qkv.i(range)?;
            let attended = self.attend(&text)?;
            read(&attended, |attended| self.append_transposed(attended, &mut context))?;
        }
        Tensor::from_vec(context, (tokens, width), &Device::Cpu)
    }

    /// One text `(length, 3, heads, head_width)` to `(heads, length, head_width)`.
    fn attend(&self, text: &Tensor) -> Result<Tensor> {
        let part = |index: usize| text.i((.., index))?.transpose(0, 1);
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        let scores = query.matmul(&key.transpose(D::Minus2, D::Minus1)?)?;
        scores.inplace_op1(&Softmax { scale: 1.0 / (self.head_width as f32).sqrt() })?;
        scores.matmul(&value)
    }

    /// Appends `(heads, length, head_width)` as `(length, heads · head_width)`.
    fn append_transposed(&self, attended: &[f32], context: &mut Vec<f32>) {
        let per_head = attended.len() / self.heads;
        for start in (0..per_head).step_by(self.head_width) {
            for head in attended.chunks_exact(per_head) {
                context.extend_from_slice(&head[start..start + self.head_width]);
            }
        }
    }
}

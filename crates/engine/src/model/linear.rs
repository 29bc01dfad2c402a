//! A linear layer and what is done to its result while that is still in cache. All matrix products with weights go
//! through here.

use candle_core::{Result, Tensor};

use super::ops::{AddBias, AddBiasGelu, AddBiasResidualNorm};
use super::rows::Norm;
use crate::error::LoadError;
use crate::weights::Weights;

/// `x · weight + bias`, then an [`Epilogue`].
pub(super) struct Linear {
    /// `(inputs, outputs)`: the transpose of the file's layout, because gemm then reads it without packing it first.
    weight: Tensor,
    /// `(outputs)`
    bias: Vec<f32>,
}

/// What follows the product, in the same pass as the bias.
pub(super) enum Epilogue<'a> {
    /// Only the bias.
    None,
    /// GELU.
    Gelu,
    /// The sum with `add` `(rows, outputs)`, then `norm`.
    Residual {
        /// What the block got as its input.
        add: &'a Tensor,
        /// Norm over the sum.
        norm: &'a Norm,
    },
}

impl Linear {
    /// Loads the layers `names` of `outputs` each as one layer with their outputs side by side.
    pub(super) fn load(
        weights: &Weights,
        names: &[&str],
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mut stacked = Vec::with_capacity(names.len());
        let mut bias = Vec::with_capacity(names.len() * outputs);
        for name in names {
            stacked.push(weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(weights.row(&format!("{name}.bias"), outputs)?);
        }
        Ok(Self { weight: Tensor::cat(&stacked, 0)?.t()?.contiguous()?, bias })
    }

    /// `(rows, inputs)` to `(rows, outputs)`.
    pub(super) fn forward(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let product = x.matmul(&self.weight)?;
        let bias = &self.bias;
        match epilogue {
            Epilogue::None => product.inplace_op1(&AddBias { bias })?,
            Epilogue::Gelu => product.inplace_op1(&AddBiasGelu { bias })?,
            Epilogue::Residual { add, norm } => {
                product.inplace_op2(add, &AddBiasResidualNorm { bias, norm })?
            }
        }
        Ok(product)
    }
}

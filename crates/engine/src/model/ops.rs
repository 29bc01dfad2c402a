//! The passes of [`rows`] as candle operations. candle's own are several passes each, and scalar ones.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Storage, Tensor, bail};

use super::rows::{self, Norm};

/// Calls `f` with the values of a contiguous f32 tensor.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(values(storage, layout)?)),
        Storage::Cuda(_) | Storage::Metal(_) => bail!("the encoder computes on the cpu only"),
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("values are not contiguous: {layout:?}"),
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("values are not contiguous f32: {layout:?}"),
    }
}

/// Adds a bias `(width)` to rows `(rows, width)`.
pub(super) struct AddBias<'a> {
    pub(super) bias: &'a [f32],
}

impl InplaceOp1 for AddBias<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        rows::add_bias(values_mut(storage, layout)?, self.bias);
        Ok(())
    }
}

/// Adds a bias `(width)` to rows `(rows, width)`, then GELU.
pub(super) struct AddBiasGelu<'a> {
    pub(super) bias: &'a [f32],
}

impl InplaceOp1 for AddBiasGelu<'_> {
    fn name(&self) -> &'static str {
        "add-bias-gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        rows::add_bias_gelu(values_mut(storage, layout)?, self.bias);
        Ok(())
    }
}

/// Adds a bias `(width)` and a residual `(rows, width)` to rows, then a norm over each row.
pub(super) struct AddBiasResidualNorm<'a> {
    pub(super) bias: &'a [f32],
    pub(super) norm: &'a Norm,
}

impl InplaceOp2 for AddBiasResidualNorm<'_> {
    fn name(&self) -> &'static str {
        "add-bias-residual-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<()> {
        let residual = values(residual, residual_layout)?;
        rows::add_bias_residual_norm(values_mut(storage, layout)?, self.bias, residual, self.norm);
        Ok(())
    }
}

/// Softmax over the last dimension of scores multiplied by `scale`.
pub(super) struct Softmax {
    pub(super) scale: f32,
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "scaled-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some(&width) = layout.dims().last() else { bail!("softmax of a scalar") };
        rows::softmax(values_mut(storage, layout)?, width, self.scale);
        Ok(())
    }
}

//! The product in plain Rust, which the compiler turns into whatever vectors the target has.

use super::Left;
use crate::activations::BLOCK;

/// Sums of one row are 32 numbers side by side, added in the order of the inputs.
pub(crate) fn multiply(left: Left<'_>, panel: &[f32], sums: &mut [f32], sums_stride: usize) {
    for row in 0..left.rows {
        let values = &left.values[row * left.stride..];
        let mut row_sums = [0.0_f32; BLOCK];
        for (value, weights) in values.iter().zip(panel.chunks_exact(BLOCK)) {
            row_sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
        sums[row * sums_stride..][..BLOCK].copy_from_slice(&row_sums);
    }
}

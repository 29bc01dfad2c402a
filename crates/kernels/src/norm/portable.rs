//! Layer norm in plain Rust.

use super::LayerNorm;
use crate::lanes::{LANES, fold};
use crate::multiply_add::{MultiplyAdd, Separate};

/// Normalises `rows` where they are.
pub(super) fn apply(norm: &LayerNorm, rows: &mut [f32]) {
    rows.chunks_exact_mut(norm.width()).for_each(|row| apply_with::<Separate>(norm, row));
}

/// The same on a CPU with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn apply_avx2(norm: &LayerNorm, rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(norm.width()) {
        apply_with::<crate::multiply_add::Fused>(norm, row);
    }
}

#[inline(always)]
fn apply_with<M: MultiplyAdd>(norm: &LayerNorm, row: &mut [f32]) {
    let count = row.len() as f32;
    let mean = sum(row, |sum, value| sum + value) / count;
    let square = |sum, value| M::multiply_add(value - mean, value - mean, sum);
    let variance = sum(row, square) / count;
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    for ((value, scale), shift) in row.iter_mut().zip(&norm.scale).zip(&norm.shift) {
        *value = M::multiply_add((*value - mean) * factor, *scale, *shift);
    }
}

#[inline(always)]
fn sum(row: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let groups = row.chunks_exact(LANES);
    let rest: f32 = groups.remainder().iter().fold(0.0, |sum, &value| add(sum, value));
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane = add(*lane, value);
        }
    }
    fold(lanes, |a, b| a + b) + rest
}

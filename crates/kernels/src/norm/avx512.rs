//! Layer norm of one row in 512-bit registers.

use std::arch::x86_64::*;

use super::{LayerNorm, Lines};
use crate::activations::BLOCK;
use crate::convert::avx512::store_bf16;
use crate::output::avx512::Masks;

/// Normalises `row` and writes it as `lines` of bf16.
///
/// # Safety
/// The CPU has these features, and nobody else uses these lines meanwhile.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn apply_to_blocks(norm: &LayerNorm, row: &mut [f32], lines: Lines<'_>) {
    let moments = moments(row, norm.epsilon);
    for (block, values) in row.chunks_mut(BLOCK).enumerate() {
        let masks = Masks::first(values.len());
        let normal = norm.normal(block, values, masks, moments);
        store(values, masks, normal);
        // SAFETY: as the caller says.
        store_bf16(unsafe { lines.of_block(block) }, masks, normal);
    }
}

/// The same, but `row` stays as it is.
///
/// # Safety
/// As of [`apply_to_blocks`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn copy_to_blocks(norm: &LayerNorm, row: &[f32], lines: Lines<'_>) {
    let moments = moments(row, norm.epsilon);
    for (block, values) in row.chunks(BLOCK).enumerate() {
        let masks = Masks::first(values.len());
        // SAFETY: as the caller says.
        store_bf16(unsafe { lines.of_block(block) }, masks, norm.normal(block, values, masks, moments));
    }
}

/// Normalises `row` where it is.
#[target_feature(enable = "avx512f")]
pub(super) fn apply(norm: &LayerNorm, row: &mut [f32]) {
    let moments = moments(row, norm.epsilon);
    for (block, values) in row.chunks_mut(BLOCK).enumerate() {
        let masks = Masks::first(values.len());
        let normal = norm.normal(block, values, masks, moments);
        store(values, masks, normal);
    }
}

/// The mean, and one over the standard deviation, of a row, in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn moments(row: &[f32], epsilon: f32) -> [__m512; 2] {
    let count = row.len() as f32;
    let mut sums = [_mm512_setzero_ps(); 2];
    for values in row.chunks(BLOCK) {
        let values = load(values, Masks::first(values.len()));
        sums = [_mm512_add_ps(sums[0], values[0]), _mm512_add_ps(sums[1], values[1])];
    }
    let mean = _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) / count);
    let mut squares = [_mm512_setzero_ps(); 2];
    for values in row.chunks(BLOCK) {
        let masks = Masks::first(values.len());
        let values = load(values, masks);
        for half in 0..2 {
            let difference = _mm512_maskz_sub_ps(masks.0[half], values[half], mean);
            squares[half] = _mm512_fmadd_ps(difference, difference, squares[half]);
        }
    }
    let variance = _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1])) / count;
    [mean, _mm512_set1_ps(1.0 / (variance + epsilon).sqrt())]
}

impl LayerNorm {
    /// What up to 32 values of a block become.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn normal(&self, block: usize, values: &[f32], masks: Masks, moments: [__m512; 2]) -> [__m512; 2] {
        let before = load(values, masks);
        let scale = load(&self.scale[block * BLOCK..], masks);
        let shift = load(&self.shift[block * BLOCK..], masks);
        [0, 1].map(|half| {
            let centred = _mm512_sub_ps(before[half], moments[0]);
            _mm512_fmadd_ps(_mm512_mul_ps(centred, moments[1]), scale[half], shift[half])
        })
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32], masks: Masks, values: [__m512; 2]) {
    // SAFETY: `masks` have a bit for each place, and other lanes are not written.
    unsafe { masks.store(to.as_mut_ptr(), values) }
}

/// Up to 32 values, as many as `masks` have bits; the other lanes are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32], masks: Masks) -> [__m512; 2] {
    // SAFETY: `masks` have a bit for each value, and other lanes are not read.
    unsafe { masks.load(values.as_ptr()) }
}

//! Layer norm of one row in 512-bit registers.

use std::arch::x86_64::*;

use super::LayerNorm;
use crate::activations::{Activations, BLOCK, Layout};
use crate::convert::avx512::store_bf16;
use crate::output::avx512::Masks;

/// Normalises `row` and writes it as row `index` of blocks of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn apply_to_blocks(norm: &LayerNorm, row: &mut [f32], index: usize, to: &mut Activations) {
    let Layout::Blocks { values: lines, stride } = &mut to.layout else {
        unreachable!("blocks are the layout of this tier")
    };
    let moments = moments(row, norm.epsilon);
    let blocks = row.chunks_mut(BLOCK).zip(norm.scale.chunks(BLOCK).zip(norm.shift.chunks(BLOCK)));
    for (block, (values, (scale, shift))) in blocks.enumerate() {
        let masks = Masks::first(values.len());
        let normal = normalise(values, masks, moments, scale, shift);
        store_bf16(&mut lines[(block * *stride + index) * BLOCK..], masks, normal);
    }
}

/// Normalises `row` and copies it to row `index` of f32 rows.
#[target_feature(enable = "avx512f")]
pub(super) fn apply_to_rows(norm: &LayerNorm, row: &mut [f32], index: usize, to: &mut Activations) {
    let Layout::Rows(rows) = &mut to.layout else { unreachable!("rows are the layout of this tier") };
    let moments = moments(row, norm.epsilon);
    let blocks = row.chunks_mut(BLOCK).zip(norm.scale.chunks(BLOCK).zip(norm.shift.chunks(BLOCK)));
    for (values, (scale, shift)) in blocks {
        normalise(values, Masks::first(values.len()), moments, scale, shift);
    }
    rows[index * row.len()..][..row.len()].copy_from_slice(row);
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

/// Normalises up to 32 values where they are.
#[inline]
#[target_feature(enable = "avx512f")]
fn normalise(
    values: &mut [f32],
    masks: Masks,
    moments: [__m512; 2],
    scale: &[f32],
    shift: &[f32],
) -> [__m512; 2] {
    let (before, scale, shift) = (load(values, masks), load(scale, masks), load(shift, masks));
    let normal = [0, 1].map(|half| {
        let centred = _mm512_sub_ps(before[half], moments[0]);
        _mm512_fmadd_ps(_mm512_mul_ps(centred, moments[1]), scale[half], shift[half])
    });
    // SAFETY: `masks` have a bit for each value, and other lanes are not written.
    unsafe {
        _mm512_mask_storeu_ps(values.as_mut_ptr(), masks.0[0], normal[0]);
        _mm512_mask_storeu_ps(values.as_mut_ptr().wrapping_add(16), masks.0[1], normal[1]);
    }
    normal
}

/// Up to 32 values, as many as `masks` have bits; the other lanes are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32], masks: Masks) -> [__m512; 2] {
    // SAFETY: `masks` have a bit for each value, and other lanes are not read.
    unsafe {
        [
            _mm512_maskz_loadu_ps(masks.0[0], values.as_ptr()),
            _mm512_maskz_loadu_ps(masks.0[1], values.as_ptr().wrapping_add(16)),
        ]
    }
}

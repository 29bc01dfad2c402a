//! Softmax of a row of scores in 512-bit registers. What is divided by is returned: the caller divides the few
//! results, not the many weights.

use std::arch::x86_64::*;

use crate::activations::BLOCK;
use crate::convert::avx512::store_bf16;
use crate::exp::avx512::exp2;
use crate::output::avx512::Masks;

/// Replaces `scores` by 2 to the power `scale · (score - max)` and returns their sum.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn in_place(scores: &mut [f32], scale: f32) -> f32 {
    let shift = shift(scores, scale);
    let mut sum = _mm512_setzero_ps();
    for scores in scores.chunks_mut(BLOCK) {
        let masks = Masks::first(scores.len());
        let weights = weights(scores, masks, scale, shift);
        sum = _mm512_add_ps(sum, _mm512_add_ps(weights[0], weights[1]));
        // SAFETY: `masks` have a bit for each score, and other lanes are not written.
        unsafe {
            _mm512_mask_storeu_ps(scores.as_mut_ptr(), masks.0[0], weights[0]);
            _mm512_mask_storeu_ps(scores.as_mut_ptr().wrapping_add(16), masks.0[1], weights[1]);
        }
    }
    _mm512_reduce_add_ps(sum)
}

/// The same, but the weights go to `to` as bf16: 32 at the begin of each stretch of `stride` places, zeros behind the
/// last. The sum is that of the weights before they were rounded.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) fn to_bf16(scores: &[f32], scale: f32, to: &mut [u16], stride: usize) -> f32 {
    let shift = shift(scores, scale);
    let mut sum = _mm512_setzero_ps();
    for (block, scores) in scores.chunks(BLOCK).enumerate() {
        let masks = Masks::first(scores.len());
        let weights = weights(scores, masks, scale, shift);
        sum = _mm512_add_ps(sum, _mm512_add_ps(weights[0], weights[1]));
        store_bf16(&mut to[block * stride..], masks, weights);
    }
    _mm512_reduce_add_ps(sum)
}

/// What is added to `scale · score`, so that the largest becomes zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn shift(scores: &[f32], scale: f32) -> __m512 {
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    let mut max = [none; 2];
    for scores in scores.chunks(BLOCK) {
        let masks = Masks::first(scores.len());
        // SAFETY: `masks` have a bit for each score, and other lanes are not read.
        unsafe {
            let low = _mm512_mask_loadu_ps(none, masks.0[0], scores.as_ptr());
            let high = _mm512_mask_loadu_ps(none, masks.0[1], scores.as_ptr().wrapping_add(16));
            max = [_mm512_max_ps(max[0], low), _mm512_max_ps(max[1], high)];
        }
    }
    _mm512_set1_ps(-scale * _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1])))
}

/// Up to 32 weights; lanes outside `masks` are zero. A NaN among the scores stays one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn weights(scores: &[f32], masks: Masks, scale: f32, shift: __m512) -> [__m512; 2] {
    let scale = _mm512_set1_ps(scale);
    // SAFETY: `masks` have a bit for each score, and other lanes are not read.
    let scores = unsafe {
        [
            _mm512_maskz_loadu_ps(masks.0[0], scores.as_ptr()),
            _mm512_maskz_loadu_ps(masks.0[1], scores.as_ptr().wrapping_add(16)),
        ]
    };
    [0, 1].map(|half| {
        let power = exp2(_mm512_fmadd_ps(scores[half], scale, shift));
        _mm512_maskz_mov_ps(masks.0[half], power)
    })
}

//! Softmax in 512-bit registers.

use std::arch::x86_64::*;

use crate::activations::BLOCK;
use crate::exp::avx512::exp2;
use crate::linear::bf16::{bf16, load};
use crate::output::avx512::Masks;

/// Replaces `scores` by 2 to the power `scale · (score - max)` and returns their sum.
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn in_place(scores: &mut [f32], scale: f32) -> f32 {
    let shift = shift(scores, scale);
    let mut sum = _mm512_setzero_ps();
    for scores in scores.chunks_mut(BLOCK) {
        let masks = Masks::first(scores.len());
        let weights = weights(scores, masks, scale, shift);
        sum = _mm512_add_ps(sum, _mm512_add_ps(weights[0], weights[1]));
        // SAFETY: `masks` have a bit for each score, and other lanes are not written.
        unsafe { masks.store(scores.as_mut_ptr(), weights) };
    }
    _mm512_reduce_add_ps(sum)
}

/// The same, but the weights go to `to` as bf16: 32 at the begin of each stretch of `stride` places in the order of
/// [`Powers`](super::powers::Powers), zeros where there is no score.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) fn to_bf16(scores: &[f32], scale: f32, to: &mut [u16], stride: usize) -> f32 {
    let shift = shift(scores, scale);
    let mut sum = _mm512_setzero_ps();
    for (block, scores) in scores.chunks(BLOCK).enumerate() {
        let masks = Masks::first(scores.len());
        let weights = weights(scores, masks, scale, shift);
        sum = _mm512_add_ps(sum, _mm512_add_ps(weights[0], weights[1]));
        store_in_pairs(&mut to[block * stride..], weights);
    }
    _mm512_reduce_add_ps(sum)
}

/// Writes 32 values as bf16 in the order of [`Powers`](super::powers::Powers).
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn store_in_pairs(to: &mut [u16], values: [__m512; 2]) {
    let to = &mut to[..BLOCK];
    let [low, high] = values.map(|half| {
        // SAFETY: both types are 256 bits of which any pattern is a value.
        let rounded = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(half)) };
        _mm512_cvtepu16_epi32(rounded)
    });
    let pairs = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
    // SAFETY: the slice is 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
}

/// Adds rows of 32 weights in bf16 to sums of as many rows, in parts that belong together.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn add_up(weights: &[u16], sums: &mut [__m512]) {
    let ones = bf16(_mm512_set1_epi16(ONE_BF16));
    for (row, sum) in weights.chunks_exact(BLOCK).zip(sums) {
        // SAFETY: a row has 64 bytes.
        let row = bf16(unsafe { load(row.as_ptr()) });
        *sum = _mm512_dpbf16_ps(*sum, row, ones);
    }
}

/// The bits of 1 in bf16.
const ONE_BF16: i16 = 0x3f80;

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
    let scores = unsafe { masks.load(scores.as_ptr()) };
    [0, 1].map(|half| {
        let power = exp2(_mm512_fmadd_ps(scores[half], scale, shift));
        _mm512_maskz_mov_ps(masks.0[half], power)
    })
}

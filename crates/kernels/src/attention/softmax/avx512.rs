//! Softmax in 512-bit registers.

use std::arch::x86_64::*;

use crate::activations::BLOCK;
use crate::convert::avx512::{store_bf16, write_bf16};
use crate::exp::avx512::{exp2, exp2_for_bf16};
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

/// The same, but the weights go to `to` as bf16: 32 at the begin of each stretch of `stride` places, zeros behind the
/// last.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) fn to_bf16(scores: &[f32], scale: f32, to: &mut [u16], stride: usize) -> f32 {
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

/// Rows whose powers are computed side by side.
pub(crate) const ROWS: usize = 4;

/// Writes 2 to the power of each scaled score to `to` as bf16, without a look at the largest first. Both are rows of 32,
/// the first `keys` of each count, and the other weights become zero. False if the size of a scaled score, NaN aside, is
/// beyond [`POWER_MAX`].
///
/// # Panics
/// If the rows are no multiple of [`ROWS`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) fn powers(scores: &[f32], keys: usize, scale: f32, to: &mut [u16]) -> bool {
    assert!(scores.len() == to.len() && scores.len().is_multiple_of(ROWS * BLOCK));
    let masks = Masks::first(keys);
    let mut powers = Powers { scale: _mm512_set1_ps(scale), largest: [_mm512_setzero_ps(); 2] };
    for (scores, to) in scores.chunks_exact(ROWS * BLOCK).zip(to.chunks_exact_mut(ROWS * BLOCK)) {
        let (scores, to) = (scores.as_ptr(), to.as_mut_ptr());
        // SAFETY: the chunks are rows of 32, as many as `ROWS`.
        unsafe {
            if keys == BLOCK {
                powers.write_whole(scores, to);
            } else if keys > BLOCK / 2 {
                powers.write_part(scores, masks, to);
            } else {
                powers.write_half(scores, masks, to);
            }
        }
    }
    let largest = _mm512_max_ps(powers.largest[0], powers.largest[1]);
    _mm512_cmp_ps_mask::<_CMP_GT_OQ>(largest, _mm512_set1_ps(POWER_MAX)) == 0
}

/// Adds rows of 32 weights in bf16 to sums of as many rows, in parts that belong together.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn add_up(weights: &[u16], sums: &mut [__m512]) {
    let ones = bf16(_mm512_set1_epi16(ONE_BF16));
    for (row, sum) in weights.chunks_exact(BLOCK).zip(sums) {
        // SAFETY: a row has 64 bytes.
        let row = unsafe { load(row.as_ptr()) };
        *sum = _mm512_dpbf16_ps(*sum, row, ones);
    }
}

/// The bits of 1 in bf16.
const ONE_BF16: i16 = 0x3f80;

/// Powers of 2 up to here, and sums of many of them, fit in f32 and bf16, and so do those down to minus this.
const POWER_MAX: f32 = 80.0;

/// Powers of many scores, and how large those were.
#[derive(Debug, Clone, Copy)]
struct Powers {
    scale: __m512,
    largest: [__m512; 2],
}

impl Powers {
    /// # Safety
    /// There are [`ROWS`] rows of 32 scores, and room for as many.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn write_whole(&mut self, scores: *const f32, to: *mut u16) {
        let mut values = [_mm512_setzero_ps(); 2 * ROWS];
        for (index, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *value = unsafe { _mm512_loadu_ps(scores.add(index * BLOCK / 2)) };
        }
        let powers = self.of(values);
        for row in 0..ROWS {
            let values = [powers[2 * row], powers[2 * row + 1]];
            // SAFETY: as the caller says.
            unsafe { write_bf16(to.add(row * BLOCK), Masks::first(BLOCK), values) };
        }
    }

    /// # Safety
    /// As of [`Powers::write_whole`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn write_part(&mut self, scores: *const f32, masks: Masks, to: *mut u16) {
        let mut values = [_mm512_setzero_ps(); 2 * ROWS];
        for (index, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *value = unsafe { _mm512_maskz_loadu_ps(masks.0[index % 2], scores.add(index * BLOCK / 2)) };
        }
        let powers = self.of(values);
        for row in 0..ROWS {
            let values = [powers[2 * row], powers[2 * row + 1]];
            // SAFETY: as the caller says.
            unsafe { write_bf16(to.add(row * BLOCK), masks, values) };
        }
    }

    /// The same where the second half of each row does not count.
    ///
    /// # Safety
    /// As of [`Powers::write_whole`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn write_half(&mut self, scores: *const f32, masks: Masks, to: *mut u16) {
        let mut values = [_mm512_setzero_ps(); ROWS];
        for (row, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            *value = unsafe { _mm512_maskz_loadu_ps(masks.0[0], scores.add(row * BLOCK)) };
        }
        for (row, power) in self.of(values).into_iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe { write_bf16(to.add(row * BLOCK), masks, [power, _mm512_setzero_ps()]) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn of<const N: usize>(&mut self, mut scores: [__m512; N]) -> [__m512; N] {
        /// The larger of two in size, without its sign.
        const LARGER_SIZE: i32 = 0b1011;
        for score in &mut scores {
            *score = _mm512_mul_ps(*score, self.scale);
        }
        for (index, score) in scores.iter().enumerate() {
            let largest = &mut self.largest[index % 2];
            *largest = _mm512_range_ps::<LARGER_SIZE>(*largest, *score);
        }
        exp2_for_bf16(scores)
    }
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
    let scores = unsafe { masks.load(scores.as_ptr()) };
    [0, 1].map(|half| {
        let power = exp2(_mm512_fmadd_ps(scores[half], scale, shift));
        _mm512_maskz_mov_ps(masks.0[half], power)
    })
}

//! Weights of softmax in bf16, in 512-bit registers: powers of two of scaled scores, without a look at the largest first.
//!
//! ```text
//!  score ─▶ · scale ─▶ 256 · (64 + x), whole, sixteen bits ─▶ exponent │ f ─▶ exponent │ 2^f - 1 ─▶ bf16
//!            f32            32 keys in one register                 a parabola
//! ```
//! A number in steps of 1/256 of a power has the exponent of the bf16 that it becomes in its upper half already. The
//! lower half `f` is bent from `1 + f` to `2^f` by a parabola (the idea: Schraudolph, A Fast, Compact Approximation of
//! the Exponential Function, 1999). Weights are within 7e-3 of the power times one factor that all have in common, and
//! 2.1e-3 on average; rounding to bf16 alone is 4e-3 and 1.7e-3. It takes two thirds of the instructions of powers in f32,
//! and a CPU that looks some 500 instructions ahead meets the tiles of the next turn that much earlier.

use std::arch::x86_64::*;

use crate::activations::BLOCK;
use crate::output::avx512::Masks;

/// Rows whose powers are computed side by side: a CPU looks ahead further than one chain of instructions, but not over
/// many.
pub(crate) const ROWS: usize = 4;

/// Keys of a tile of scores: half of a row.
pub(crate) const HALF: usize = BLOCK / 2;

/// Steps from one power of two to the next.
const STEPS: f32 = 256.0;

/// Powers from minus to plus this one can be written.
const OCTAVES: i16 = 64;

/// Added to a number below 2²², it leaves the nearest whole one in the lowest bits. Its own lower half is zero.
const MAGIC: f32 = 12_582_912.0;

/// Bits that only differ from those of [`MAGIC`] where a number in steps is below zero, too large or none.
const OUTSIDE: u32 = !0x7fff;

/// Makes weights of rows of 32 scores. The weights of key `i` and of key `16 + i` stand side by side, the order of packed
/// values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Powers {
    scale: __m512,
    /// How many keys count; the weights of others are zero.
    keys: usize,
    /// Bits that are no part of a number in steps.
    outside: [__m512i; 2],
}

impl Powers {
    /// Of scores of 32 keys of which the first `keys` count.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(keys: usize, scale: f32) -> Self {
        Self { scale: _mm512_set1_ps(STEPS * scale), keys, outside: [_mm512_setzero_si512(); 2] }
    }

    /// Whether all scaled scores so far were numbers within [-64, 64), beyond which weights are wrong.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn are_within(&self) -> bool {
        let outside = _mm512_or_si512(self.outside[0], self.outside[1]);
        _mm512_test_epi32_mask(outside, _mm512_set1_epi32(OUTSIDE.cast_signed())) == 0
    }

    /// Writes the weights of rows of 32, as many as a multiple of [`ROWS`].
    ///
    /// # Panics
    /// If there are not as many scores and places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn write(&mut self, scores: &[f32], to: &mut [u16]) {
        assert!(scores.len() == to.len() && scores.len().is_multiple_of(ROWS * BLOCK));
        for (scores, to) in scores.chunks_exact(ROWS * BLOCK).zip(to.chunks_exact_mut(ROWS * BLOCK)) {
            let (scores, to) = (scores.as_ptr(), to.as_mut_ptr());
            // SAFETY: both are as many rows as `ROWS`.
            unsafe {
                match self.keys {
                    BLOCK => All::write(self, scores, to),
                    keys if keys > HALF => MoreThanHalf::write(self, scores, to),
                    _ => FirstHalf::write(self, scores, to),
                }
            }
        }
    }

    /// The lower halves are scaled scores in steps.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn in_steps(&mut self, scores: [__m512; 2]) -> [__m512i; 2] {
        /// The first, or what is in one of the others alone.
        const OR_DIFFERENT: i32 = 0b1111_0110;
        let magic = _mm512_set1_ps(MAGIC + STEPS * f32::from(OCTAVES));
        let mut steps = [_mm512_setzero_si512(); 2];
        for ((steps, scores), outside) in steps.iter_mut().zip(scores).zip(&mut self.outside) {
            *steps = _mm512_castps_si512(_mm512_fmadd_ps(scores, self.scale, magic));
            let expected = _mm512_castps_si512(_mm512_set1_ps(MAGIC));
            *outside = _mm512_ternarylogic_epi32::<OR_DIFFERENT>(*outside, *steps, expected);
        }
        steps
    }
}

/// Which of 32 keys count: a text's last ones are fewer.
pub(crate) trait Keys {
    /// Writes the weights of [`ROWS`] rows of 32.
    ///
    /// # Safety
    /// The CPU has AVX-512; there are as many scores, and there is room for as many weights.
    unsafe fn write(powers: &mut Powers, scores: *const f32, to: *mut u16);
}

/// All.
pub(crate) struct All;
/// More than the first half.
pub(crate) struct MoreThanHalf;
/// None of the second half.
pub(crate) struct FirstHalf;

impl Keys for All {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn write(powers: &mut Powers, scores: *const f32, to: *mut u16) {
        let mut rows = [_mm512_setzero_si512(); ROWS];
        for (index, row) in rows.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            let halves = unsafe { Masks::first(BLOCK).load(scores.add(index * BLOCK)) };
            *row = side_by_side(powers.in_steps(halves));
        }
        // SAFETY: as the caller says.
        unsafe { store(to, bent(rows)) };
    }
}

impl Keys for MoreThanHalf {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn write(powers: &mut Powers, scores: *const f32, to: *mut u16) {
        let masks = Masks::first(powers.keys);
        let counting = side_by_side(masks.0.map(|half| _mm512_maskz_set1_epi32(half, -1)));
        let mut rows = [_mm512_setzero_si512(); ROWS];
        for (index, row) in rows.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            let halves = unsafe { masks.load(scores.add(index * BLOCK)) };
            *row = side_by_side(powers.in_steps(halves));
        }
        // SAFETY: as the caller says.
        unsafe { store(to, bent(rows).map(|weights| _mm512_and_si512(weights, counting))) };
    }
}

impl Keys for FirstHalf {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn write(powers: &mut Powers, scores: *const f32, to: *mut u16) {
        let mask = Masks::first(powers.keys).0[0];
        let counting = _mm512_maskz_set1_epi32(mask, 0xffff);
        let mut rows = [_mm512_setzero_si512(); ROWS];
        for (index, row) in rows.iter_mut().enumerate() {
            // SAFETY: as the caller says.
            let half = unsafe { _mm512_maskz_loadu_ps(mask, scores.add(index * BLOCK)) };
            [*row, _] = powers.in_steps([half, _mm512_setzero_ps()]);
        }
        // SAFETY: as the caller says.
        unsafe { store(to, bent(rows).map(|weights| _mm512_and_si512(weights, counting))) };
    }
}

/// # Safety
/// There is room for [`ROWS`] rows of 32.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: *mut u16, rows: [__m512i; ROWS]) {
    for (index, row) in rows.into_iter().enumerate() {
        // SAFETY: as the caller says.
        unsafe { _mm512_storeu_si512(to.add(index * BLOCK).cast(), row) };
    }
}

/// The lower halves of 16 and 16 numbers: one of these, one of those.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn side_by_side([low, high]: [__m512i; 2]) -> __m512i {
    const EVERY_SECOND: __mmask32 = 0xaaaa_aaaa;
    _mm512_mask_blend_epi16(EVERY_SECOND, low, _mm512_slli_epi32::<16>(high))
}

/// Makes bf16 of powers in steps: takes `f · (BEND_1 - BEND_2 · f)` away from each `f`, and moves the exponent to where it
/// has its place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bent(rows: [__m512i; ROWS]) -> [__m512i; ROWS] {
    /// In 1/65536, fitted together with the next for the least mean error of the rounded weights.
    const BEND_1: i16 = 22512;
    /// In 1/256: `f` has eight bits.
    const BEND_2: i16 = 86;
    /// Of bf16 beyond that of a power in steps.
    const EXPONENT: i16 = 127 - OCTAVES;
    let fraction = rows.map(|row| _mm512_and_si512(row, _mm512_set1_epi16(0xff)));
    let second = fraction.map(|fraction| _mm512_mullo_epi16(fraction, _mm512_set1_epi16(BEND_2)));
    let slope = second.map(|second| _mm512_sub_epi16(_mm512_set1_epi16(BEND_1), second));
    let mut weights = rows;
    for (weights, (fraction, slope)) in weights.iter_mut().zip(fraction.into_iter().zip(slope)) {
        *weights = _mm512_sub_epi16(*weights, _mm512_mulhi_epu16(fraction, slope));
    }
    // The mean, rounded up, of a number in 1/256 and an even one in 1/256: half of their sum, in 1/128.
    weights.map(|weights| _mm512_avg_epu16(weights, _mm512_set1_epi16(EXPONENT << 8)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::from_bf16;
    use crate::testing;

    /// The weights of one row of `scores`, by key, and whether they are right.
    fn weights(scores: &[f32], scale: f32) -> ([f32; BLOCK], bool) {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn write(rows: &[f32], keys: usize, scale: f32, to: &mut [u16]) -> bool {
            let mut powers = Powers::new(keys, scale);
            powers.write(rows, to);
            powers.are_within()
        }
        // What stands behind the last key must not matter.
        let mut rows = [f32::NAN; ROWS * BLOCK];
        rows.chunks_exact_mut(BLOCK).for_each(|row| row[..scores.len()].copy_from_slice(scores));
        let mut written = [0; ROWS * BLOCK];
        // SAFETY: the callers have asked for AVX-512.
        let are_within = unsafe { write(&rows, scores.len(), scale, &mut written) };
        assert!(written.chunks_exact(BLOCK).all(|row| row == &written[..BLOCK]), "rows are alike");
        let of_key = |key: usize| from_bf16(written[key % HALF * 2 + key / HALF]);
        (std::array::from_fn(of_key), are_within)
    }

    proptest! {
        #[test]
        fn weights_are_powers_of_two_times_a_factor_near_one(
            scores in prop::collection::vec(-100.0_f32..100.0, 1..=BLOCK), scale in 0.1_f32..0.6
        ) {
            if testing::has_avx512("weights_are_powers_of_two_times_a_factor_near_one") {
                let (weights, are_within) = weights(&scores, scale);
                prop_assert!(are_within);
                for (score, weight) in scores.iter().zip(weights) {
                    let power = f64::from(scale * score).exp2();
                    prop_assert!((f64::from(weight) / power - 1.001).abs() < 7.2e-3, "{score}: {weight}");
                }
                prop_assert!(weights[scores.len()..].iter().all(|weight| *weight == 0.0));
            }
        }
    }

    #[test]
    fn score_whose_power_cannot_be_written_is_told() {
        if testing::has_avx512("score_whose_power_cannot_be_written_is_told") {
            let wrong = [64.1, -64.1, 1e4, -1e4, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
            for keys in [5, 16, 20, 32] {
                for place in 0..keys {
                    let mut scores = vec![63.9; keys];
                    scores[place / 2] = -63.9;
                    assert!(weights(&scores, 1.0).1);
                    for wrong in wrong {
                        scores[place] = wrong;
                        assert!(!weights(&scores, 1.0).1, "{wrong} at {place} of {keys}");
                    }
                }
            }
        }
    }
}

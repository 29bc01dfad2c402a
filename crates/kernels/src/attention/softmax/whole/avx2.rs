//! The same in 256-bit registers, where no instruction looks up sixteen numbers at once: the power is a polynomial of floats.
//!
//! ```text
//!  score ─▶ scale · (score - largest) = n + f, n whole ─▶ WEIGHT_MAX · 2^f of degree 3, n added to its exponent ─▶ whole
//! ```
//! Weights are within 0.01 % of the power, and within half of one.

use std::arch::x86_64::*;

use super::WEIGHT_MAX;
use crate::activations::BLOCK;

/// Numbers in a register.
const LANES: usize = 8;

/// `WEIGHT_MAX · 2^f` for `|f| ≤ ½`, the constant first: of the least largest error, relative.
const POWER: [f32; 4] = [8_191.411, 5_679.194, 1_987.470_3, 451.966_3];

/// So far below the largest a weight is nothing.
const LEAST: f32 = -15.0;

/// Added to a number below 2²², it leaves the nearest whole one in the lowest bits.
const MAGIC: f32 = 12_582_912.0;

/// Bits of a float below its exponent.
const FRACTION_BITS: i32 = 23;

/// Writes 2 to the power `scale · (score - largest)`, times [`WEIGHT_MAX`], for whole blocks of 32 `scores`, of which those from
/// `keys` on have no weight, and returns the sum. Weights of a block go to the begin of each stretch of `stride` places. Scores
/// that are no numbers, or too far below the largest, have none.
///
/// # Panics
/// If `to` is too short.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn weigh(scores: &mut [f32], keys: usize, scale: f32, (to, stride): (&mut [u16], usize)) -> f32 {
    scores[keys..].fill(f32::NEG_INFINITY);
    let scale = _mm256_set1_ps(scale);
    let shift = _mm256_mul_ps(largest(scores), scale);
    let mut sums = _mm256_setzero_si256();
    for (block, scores) in scores.chunks_exact(BLOCK).enumerate() {
        let to = &mut to[block * stride..][..BLOCK];
        for half in 0..2 {
            let (scores, to) =
                (&scores[half * 2 * LANES..][..2 * LANES], &mut to[half * 2 * LANES..][..2 * LANES]);
            // SAFETY: the slice is sixteen scores.
            let (low, high) =
                unsafe { (_mm256_loadu_ps(scores.as_ptr()), _mm256_loadu_ps(scores.as_ptr().add(LANES))) };
            let low = power(_mm256_fmsub_ps(low, scale, shift));
            let high = power(_mm256_fmsub_ps(high, scale, shift));
            // Packing goes by lanes of 128 bits: four of the one, four of the other.
            let weights = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(weights, _mm256_set1_epi16(1)));
            // SAFETY: the slice is sixteen places.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), weights) };
        }
    }
    let mut lanes = [0_i32; LANES];
    // SAFETY: there is room for eight numbers.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) };
    lanes.into_iter().sum::<i32>() as f32
}

/// The largest score, in all places; what is no number does not count.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(scores: &[f32]) -> __m256 {
    let mut largest = [_mm256_set1_ps(f32::MIN); BLOCK / LANES];
    for block in scores.chunks_exact(BLOCK) {
        for (largest, scores) in largest.iter_mut().zip(block.chunks_exact(LANES)) {
            // SAFETY: the slice is eight scores. Of two operands `max` gives the second if one is NaN.
            *largest = _mm256_max_ps(unsafe { _mm256_loadu_ps(scores.as_ptr()) }, *largest);
        }
    }
    let [a, b, c, d] = largest;
    let mut largest = _mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d));
    largest = _mm256_max_ps(largest, _mm256_permute2f128_ps::<0x01>(largest, largest));
    largest = _mm256_max_ps(largest, _mm256_permute_ps::<0b01_00_11_10>(largest));
    _mm256_max_ps(largest, _mm256_permute_ps::<0b10_11_00_01>(largest))
}

/// `WEIGHT_MAX` times 2 to the power of `exponents`, which are zero or less, to the nearest whole number.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn power(exponents: __m256) -> __m256i {
    const { assert!(WEIGHT_MAX == 8192, "the polynomial is made for it") };
    // What is no number is as far as can be.
    let exponents = _mm256_max_ps(exponents, _mm256_set1_ps(LEAST));
    let shifted = _mm256_add_ps(exponents, _mm256_set1_ps(MAGIC));
    let fraction = _mm256_sub_ps(exponents, _mm256_sub_ps(shifted, _mm256_set1_ps(MAGIC)));
    let [c0, c1, c2, c3] = POWER;
    let power = _mm256_fmadd_ps(_mm256_set1_ps(c3), fraction, _mm256_set1_ps(c2));
    let power = _mm256_fmadd_ps(power, fraction, _mm256_set1_ps(c1));
    let power = _mm256_fmadd_ps(power, fraction, _mm256_set1_ps(c0));
    let whole = _mm256_slli_epi32::<FRACTION_BITS>(_mm256_castps_si256(shifted));
    _mm256_cvtps_epi32(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), whole)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// What the keys of a row weigh, places behind the last key included, and their sum.
    fn weights(row: &[f32], scale: f32) -> (Vec<u16>, f32) {
        let places = row.len().next_multiple_of(BLOCK);
        // What stands behind the last key must not matter.
        let mut scores = vec![f32::NAN; places];
        scores[..row.len()].copy_from_slice(row);
        let mut written = vec![0; 3 * places];
        // SAFETY: the callers have asked for AVX2.
        let sum = unsafe { weigh(&mut scores, row.len(), scale, (&mut written, 3 * BLOCK)) };
        (written.chunks(3 * BLOCK).flat_map(|block| block[..BLOCK].to_vec()).collect(), sum)
    }

    proptest! {
        #[test]
        fn weights_are_powers_of_two_below_the_largest(
            row in prop::collection::vec(-100.0_f32..100.0, 1..=3 * BLOCK),
            scale in prop_oneof![Just(0.0), 0.01_f32..4.0, Just(1000.0)]
        ) {
            if testing::has_avx2("weights_are_powers_of_two_below_the_largest") {
                let (weights, sum) = weights(&row, scale);
                let largest = row.iter().copied().fold(f32::MIN, f32::max);
                for (weight, score) in weights.iter().zip(&row) {
                    let power = (f64::from(scale) * (f64::from(*score) - f64::from(largest))).exp2();
                    let power = f64::from(WEIGHT_MAX) * power;
                    // The largest times the scale is rounded to f32, and so is what is left of a power.
                    let rounding = f64::from(largest.abs() * scale) * 1e-7;
                    let tolerance = 0.5 + (1e-4 + rounding) * power;
                    prop_assert!((f64::from(*weight) - power).abs() <= tolerance, "{score}: {weight}, not {power}");
                }
                prop_assert!(weights[row.len()..].iter().all(|weight| *weight == 0));
                prop_assert_eq!(weights.iter().map(|weight| f32::from(*weight)).sum::<f32>(), sum);
            }
        }
    }

    #[test]
    fn scores_that_are_infinite_or_no_numbers_have_no_weight() {
        if testing::has_avx2("scores_that_are_infinite_or_no_numbers_have_no_weight") {
            let (weights, sum) = weights(&[1.0, f32::NEG_INFINITY, f32::NAN, 1.0], 0.3);
            let [first, ..] = weights[..] else { unreachable!("there are four") };
            assert!(i32::from(first).abs_diff(WEIGHT_MAX) <= 1, "{first}");
            assert_eq!((&weights[..5], sum), (&[first, 0, 0, first, 0][..], 2.0 * f32::from(first)));
        }
    }
}

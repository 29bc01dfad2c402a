//! Weights of softmax as whole numbers of sixteen bits, in 512-bit registers.
//!
//! ```text
//!  score ─▶ (largest - score) · scale, in 1/1024 of a power, whole ─▶ p │ f │ g ─▶ 2^-f · 2^-g of two tables, shifted right by p
//!            f32                                        32 keys in one register
//! ```
//! Weights are within 0.04 % of the power times one factor that a row has in common, and within half of one.

pub(crate) mod avx2;

use std::arch::asm;
use std::arch::x86_64::*;

use crate::activations::BLOCK;
use crate::output::avx512::{Masks, Pair};

/// Rows whose weights are computed side by side. Four have their largest scores, and their sums, in a quarter of a register.
pub(crate) const ROWS: usize = 4;

/// The weight of the largest score.
pub(crate) const WEIGHT_MAX: i32 = 8192;

/// Steps from one power of two to the next: 32 of a 32nd.
const STEPS: f32 = 1024.0;

/// Bits that choose from a table.
const TABLE_BITS: u32 = 5;

/// 2^-f for each 32nd `f`, twice the weight.
static COARSE: [u16; 32] = [
    16_384, 16_033, 15_689, 15_353, 15_024, 14_702, 14_387, 14_079, 13_777, 13_482, 13_193, 12_910, 12_634,
    12_363, 12_098, 11_839, 11_585, 11_337, 11_094, 10_856, 10_624, 10_396, 10_173, 9_955, 9_742, 9_533,
    9_329, 9_129, 8_933, 8_742, 8_555, 8_371,
];

/// 2^-g for each 1024th `g`, of 65,536.
static FINE: [u16; 32] = [
    65_535, 65_492, 65_447, 65_403, 65_359, 65_315, 65_270, 65_226, 65_182, 65_138, 65_094, 65_050, 65_006,
    64_962, 64_918, 64_874, 64_830, 64_786, 64_742, 64_699, 64_655, 64_611, 64_567, 64_524, 64_480, 64_436,
    64_393, 64_349, 64_306, 64_262, 64_219, 64_175,
];

/// Added to a number below 2²², it leaves the nearest whole one in the lowest bits. Its own lower half is zero.
const MAGIC: f32 = 12_582_912.0;

/// The farthest from the largest, in steps: sixteen bits.
const STEPS_MAX: f32 = 65_535.0;

/// From here on, a largest score in steps leaves no room for those of others when [`MAGIC`] is added.
const LARGEST_MAX: f32 = 2_097_152.0;

/// Scores of [`ROWS`] queries, whole blocks of 32 keys, each row `stride` from the one before.
#[derive(Debug)]
pub(crate) struct Scores<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) blocks: usize,
}

/// Where weights go: those of a row at the begin of each stretch of `stride` places, 32 at a time, those of key `i` and of
/// key `16 + i` side by side, the order of packed values; the next row is 32 places on.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) values: &'a mut [u16],
    pub(crate) stride: usize,
}

impl Scores<'_> {
    /// Gives the keys from `keys` on no weight: some of the last block.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn end_at(&mut self, keys: usize) {
        let first = (self.blocks - 1) * BLOCK;
        let masks = Masks(Masks::first(keys - first).0.map(|half| !half));
        let none = _mm512_set1_ps(f32::NEG_INFINITY);
        for row in 0..ROWS {
            let block = &mut self.values[row * self.stride + first..][..BLOCK];
            // SAFETY: the slice is 32 scores.
            unsafe { masks.store(block.as_mut_ptr(), [none; 2]) };
        }
    }

    /// Writes 2 to the power `scale · (score - largest)`, times [`WEIGHT_MAX`], and returns the sum of each row. Scores that are
    /// no numbers, or too far below the largest, have none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(crate) fn weigh(&mut self, scale: f32, to: &mut Weights<'_>) -> [f32; ROWS] {
        let scale = _mm512_set1_ps(STEPS * scale);
        let mut largest = self.largest();
        let size = _mm512_abs_ps(_mm512_mul_ps(largest, scale));
        if _mm512_cmp_ps_mask::<_CMP_LT_OQ>(size, _mm512_set1_ps(LARGEST_MAX)) != u16::MAX {
            self.subtract(largest);
            largest = _mm512_setzero_ps();
        }
        let shifts = each(_mm512_fmadd_ps(largest, scale, _mm512_set1_ps(MAGIC)));
        let mut sums = [_mm512_setzero_si512(); ROWS];
        for block in 0..self.blocks {
            let to = &mut to.values[block * to.stride..][..ROWS * BLOCK];
            for (row, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                let scores = self.load(row, block);
                let weights = powers(scores.map(|half| _mm512_fnmadd_ps(half, scale, shifts[row])));
                sums[row] = _mm512_dpwssd_epi32(sums[row], weights, _mm512_set1_epi16(1));
                // SAFETY: the slice is 64 bytes.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), weights) };
            }
        }
        let sums = fold(sums.map(|sum| _mm512_cvtepi32_ps(sum)), |a, b| _mm512_add_ps(a, b));
        let mut found = [0.0; ROWS];
        // SAFETY: there is room for four numbers.
        unsafe { _mm_storeu_ps(found.as_mut_ptr(), _mm512_castps512_ps128(sums)) };
        found
    }

    /// Those of four rows, four times; what is no number does not count.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn largest(&self) -> __m512 {
        let mut largest = [_mm512_set1_ps(f32::MIN); ROWS];
        for block in 0..self.blocks {
            for (row, largest) in largest.iter_mut().enumerate() {
                for half in self.load(row, block) {
                    *largest = _mm512_max_ps(half, *largest);
                }
            }
        }
        fold(largest, |a, b| _mm512_max_ps(a, b))
    }

    /// Takes from each row what is given for it.
    #[cold]
    #[target_feature(enable = "avx512f")]
    fn subtract(&mut self, largest: __m512) {
        for (row, largest) in each(largest).into_iter().enumerate() {
            for block in 0..self.blocks {
                let less = self.load(row, block).map(|half| _mm512_sub_ps(half, largest));
                let block = &mut self.values[row * self.stride + block * BLOCK..][..BLOCK];
                // SAFETY: the slice is 32 scores.
                unsafe { Masks::first(BLOCK).store(block.as_mut_ptr(), less) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&self, row: usize, block: usize) -> Pair {
        let scores = &self.values[row * self.stride + block * BLOCK..][..BLOCK];
        // SAFETY: the slice is 32 scores.
        unsafe { Masks::first(BLOCK).load(scores.as_ptr()) }
    }
}

/// Makes one number of sixteen in each of four registers: those of all in the order of the registers, four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold([a, b, c, d]: [__m512; ROWS], both: impl Fn(__m512, __m512) -> __m512) -> __m512 {
    let ab = both(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = both(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let quarters =
        both(_mm512_shuffle_ps::<0b01_00_01_00>(ab, cd), _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd));
    let halves = both(quarters, _mm512_shuffle_f32x4::<0b10_11_00_01>(quarters, quarters));
    both(halves, _mm512_shuffle_f32x4::<0b01_00_11_10>(halves, halves))
}

/// Each of four numbers, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
fn each(four: __m512) -> [__m512; ROWS] {
    [
        _mm512_permute_ps::<0b00_00_00_00>(four),
        _mm512_permute_ps::<0b01_01_01_01>(four),
        _mm512_permute_ps::<0b10_10_10_10>(four),
        _mm512_permute_ps::<0b11_11_11_11>(four),
    ]
}

/// The weights of 16 and 16 distances in steps, [`MAGIC`] added to them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn powers(distances: Pair) -> __m512i {
    const EVERY_SECOND: __mmask32 = 0xaaaa_aaaa;
    // What is no number is as far as can be.
    let farthest = _mm512_set1_ps(MAGIC + STEPS_MAX);
    let [low, high] = distances.map(|half| _mm512_castps_si512(_mm512_min_ps(half, farthest)));
    let steps = _mm512_mask_blend_epi16(EVERY_SECOND, low, _mm512_slli_epi32::<16>(high));
    // SAFETY: the arrays are 64 bytes.
    let [coarse, fine] = [&COARSE, &FINE].map(|table| unsafe { _mm512_loadu_si512(table.as_ptr().cast()) });
    // The lower bits of an index choose.
    let coarse = _mm512_permutexvar_epi16(_mm512_srli_epi16::<TABLE_BITS>(steps), coarse);
    let fraction = _mm512_mulhi_epu16(coarse, _mm512_permutexvar_epi16(steps, fine));
    let shifted = shifted(fraction, _mm512_srli_epi16::<{ 2 * TABLE_BITS }>(steps));
    // Half of it, rounded.
    _mm512_avg_epu16(shifted, _mm512_setzero_si512())
}

/// Each of 32 numbers shifted right, to zero by sixteen bits and more. What the compiler makes of the intrinsic compares all
/// counts with sixteen first, as if the instruction did not.
#[inline]
#[target_feature(enable = "avx512bw")]
fn shifted(numbers: __m512i, counts: __m512i) -> __m512i {
    let shifted;
    // SAFETY: the instruction is AVX-512BW and touches no memory and no flags.
    unsafe {
        asm!(
            "vpsrlvw {shifted}, {numbers}, {counts}",
            shifted = lateout(zmm_reg) shifted,
            numbers = in(zmm_reg) numbers,
            counts = in(zmm_reg) counts,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    shifted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// What the keys of one row weigh, of which `keys` are weighed, and their sum.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn weights(row: &[f32], scale: f32) -> (Vec<u16>, f32) {
        let blocks = row.len().div_ceil(BLOCK);
        // What stands behind the last key, and in other rows, must not matter.
        let mut values = vec![f32::NAN; ROWS * blocks * BLOCK];
        values[2 * blocks * BLOCK..][..row.len()].copy_from_slice(row);
        let mut scores = Scores { values: &mut values, stride: blocks * BLOCK, blocks };
        let mut written = vec![0; ROWS * blocks * BLOCK];
        scores.end_at(row.len());
        let sums = scores.weigh(scale, &mut Weights { values: &mut written, stride: ROWS * BLOCK });
        let of_key = |key: usize| {
            let place = key % BLOCK % 16 * 2 + key % BLOCK / 16;
            written[key / BLOCK * ROWS * BLOCK + 2 * BLOCK + place]
        };
        ((0..blocks * BLOCK).map(of_key).collect(), sums[2])
    }

    fn check(row: &[f32], scale: f32) -> Result<(), TestCaseError> {
        // SAFETY: the callers have asked for the instructions.
        let (weights, sum) = unsafe { weights(row, scale) };
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        for (weight, score) in weights.iter().zip(row) {
            let power = (f64::from(scale) * (f64::from(*score) - f64::from(largest))).exp2();
            let power = f64::from(WEIGHT_MAX) * power;
            // A distance is a whole number of steps, and the shift of a row is one: both are rounded.
            let tolerance = 1.0 + 0.0015 * power;
            prop_assert!((f64::from(*weight) - power).abs() <= tolerance, "{score}: {weight}, not {power}");
        }
        prop_assert!(weights[row.len()..].iter().all(|weight| *weight == 0));
        prop_assert_eq!(weights.iter().map(|weight| f32::from(*weight)).sum::<f32>(), sum);
        Ok(())
    }

    fn can_test(test: &str) -> bool {
        testing::has_avx512(test) && testing::int8_kinds(test).contains(&crate::tier::Int8Kind::Vnni)
    }

    proptest! {
        #[test]
        fn weights_are_powers_of_two_below_the_largest(
            row in prop::collection::vec(-100.0_f32..100.0, 1..=3 * BLOCK),
            scale in prop_oneof![Just(0.0), 0.01_f32..4.0, Just(1000.0)]
        ) {
            if can_test("weights_are_powers_of_two_below_the_largest") {
                check(&row, scale)?;
            }
        }
    }

    #[test]
    fn scores_that_are_infinite_or_no_numbers_have_no_weight() {
        if can_test("scores_that_are_infinite_or_no_numbers_have_no_weight") {
            let row = [1.0, f32::NEG_INFINITY, f32::NAN, 1.0];
            // SAFETY: the instructions were asked for.
            let (weights, sum) = unsafe { weights(&row, 0.3) };
            assert_eq!((&weights[..5], sum), (&[8192, 0, 0, 8192, 0][..], 16384.0));
        }
    }
}

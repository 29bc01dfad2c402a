//! The exact GELU, `v · Φ(v)`, where Φ is the distribution function of the normal distribution.
//!
//! `Φ(|v|) - ½` is `|v| · P(s)`, with `s` the square of `|v|` brought from [0, LIMIT²] to [-1, 1]: there the coefficients
//! fall and f32 is enough for them. Fitted for the least largest error of `v · Φ(v)`, 1.5e-7; the rounding of f32 brings
//! it to 8.5e-7. Beyond the limit Φ is 1 within 1e-7; the fit is a trace above ½ there and is cut off at ½, so that the
//! GELU of a large number is exactly that number, and of a very negative one exactly zero.

use crate::multiply_add::MultiplyAdd;

/// From here on Φ is one.
const LIMIT: f32 = 5.2;

/// `P`, the constant first.
const COEFFICIENTS: [f32; 14] = [
    0.135_949_98,
    -0.067_743_62,
    0.050_025_616,
    -0.039_931_983,
    0.031_973_92,
    -0.024_698_833,
    0.018_038_778,
    -0.012_619_647,
    0.008_365_107,
    -0.004_542_327,
    0.002_005_172_2,
    -0.001_468_757_4,
    0.001_188_689_1,
    -0.000_388_241_37,
];

/// What is rounded to bf16 afterwards, whose half step is 1/256 of a value, is `max(v, 0) - |v| · Φ(-|v|)`, of which the
/// second part is looked up: 32 polynomials of degree two, each around a multiple
/// of `PIECE`, the last of them zero. While tiles
/// multiply there is time for one vector instruction a cycle, and the GELU is what there is most of. Within 4e-5.
#[cfg(target_arch = "x86_64")]
const PIECE: f32 = 4.3 / 30.5;

/// Coefficients of the powers 0, 1 and 2 in each piece, negative.
#[cfg(target_arch = "x86_64")]
static PIECES: [[f32; 32]; 3] = [
    [
        0.0,
        -0.000_063_337_36,
        -0.001_153_894_6,
        -0.005_710_456_5,
        -0.016_992_44,
        -0.038_1,
        -0.070_991_11,
        -0.115_749_6,
        -0.170_285_15,
        -0.230_529_47,
        -0.291_066_9,
        -0.346_037_63,
        -0.390_100_5,
        -0.419_250_1,
        -0.431_336_28,
        -0.426_219_43,
        -0.405_579_45,
        -0.372_464_72,
        -0.330_704_57,
        -0.284_311_06,
        -0.236_972_47,
        -0.191_700_71,
        -0.150_652_57,
        -0.115_108_52,
        -0.085_570_25,
        -0.061_928_6,
        -0.043_656_6,
        -0.029_992_241,
        -0.020_088_874,
        -0.013_123_732,
        -0.008_364_977,
        0.0,
    ],
    [
        -0.499_983_97,
        -0.498_593_5,
        -0.488_641_32,
        -0.463_092_83,
        -0.417_599_62,
        -0.351_210_3,
        -0.266_442,
        -0.168_748_27,
        -0.065_523_14,
        0.035_138_987,
        0.125_680_85,
        0.200_099_95,
        0.254_597_93,
        0.287_804_34,
        0.300_605_06,
        0.295_672_54,
        0.276_830_05,
        0.248_384_92,
        0.214_540_94,
        0.178_961_43,
        0.144_510_91,
        0.113_166_64,
        0.086_065_255,
        0.063_638_81,
        0.045_793_466,
        0.032_092_698,
        0.021_918_492,
        0.014_596_73,
        0.009_483,
        0.006_012_552_4,
        0.003_721_773_6,
        0.0,
    ],
    [
        0.398_404_96,
        0.390_834_9,
        0.367_948_05,
        0.332_021_45,
        0.286_083_25,
        0.233_826_49,
        0.179_171_88,
        0.125_836_95,
        0.076_972_65,
        0.034_911_547,
        0.001_049_438,
        -0.024_142_282,
        -0.040_995_907,
        -0.050_454,
        -0.053_843_56,
        -0.052_654_993,
        -0.048_354_268,
        -0.042_245_31,
        -0.035_387_743,
        -0.028_565_778,
        -0.022_297_624,
        -0.016_871_989,
        -0.012_398_476,
        -0.008_860_851,
        -0.006_165_466_3,
        -0.004_180_436_5,
        -0.002_764_093_7,
        -0.001_783_261_7,
        -0.001_123_109_4,
        -0.000_690_802_76,
        -0.000_415_111_57,
        0.0,
    ],
];

/// The GELU of one value, written so that the compiler turns many of them into vectors.
#[inline(always)]
pub(crate) fn gelu<M: MultiplyAdd>(value: f32) -> f32 {
    // Not `f32::min`, which would lose a NaN.
    let limited = if value.abs() > LIMIT { LIMIT } else { value.abs() };
    let s = M::multiply_add(limited * limited, 2.0 / (LIMIT * LIMIT), -1.0);
    let sum = polynomial::<M>(s);
    let half = if limited * sum > 0.5 { 0.5 } else { limited * sum };
    M::multiply_add(value.abs(), half, 0.5 * value)
}

/// `P`, by halves (Estrin 1960): a sum of fourteen, one after another, takes longer than all else that is done to a value.
#[inline(always)]
fn polynomial<M: MultiplyAdd>(s: f32) -> f32 {
    let [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13] = COEFFICIENTS;
    let line = |constant, slope, s| M::multiply_add(slope, s, constant);
    let (s2, s4, s8) = (s * s, (s * s) * (s * s), ((s * s) * (s * s)) * ((s * s) * (s * s)));
    let low = line(line(c0, c1, s), line(c2, c3, s), s2);
    let second = line(line(c4, c5, s), line(c6, c7, s), s2);
    let third = line(line(c8, c9, s), line(c10, c11, s), s2);
    line(line(low, second, s4), line(third, line(c12, c13, s), s4), s8)
}

/// Sixteen values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use super::{COEFFICIENTS, LIMIT, PIECE, PIECES};

    /// As exact as f32 allows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn gelu(values: __m512) -> __m512 {
        let size = _mm512_abs_ps(values);
        let limited = _mm512_min_ps(size, _mm512_set1_ps(LIMIT));
        let square = _mm512_mul_ps(limited, limited);
        let s = _mm512_fmadd_ps(square, _mm512_set1_ps(2.0 / (LIMIT * LIMIT)), _mm512_set1_ps(-1.0));
        let mut sum = _mm512_set1_ps(COEFFICIENTS[COEFFICIENTS.len() - 1]);
        for coefficient in COEFFICIENTS.iter().rev().skip(1) {
            sum = _mm512_fmadd_ps(sum, s, _mm512_set1_ps(*coefficient));
        }
        let half = _mm512_min_ps(_mm512_mul_ps(limited, sum), _mm512_set1_ps(0.5));
        // A NaN was lost in `min` and comes back here.
        _mm512_fmadd_ps(size, half, _mm512_mul_ps(values, _mm512_set1_ps(0.5)))
    }

    /// For a result that is rounded to bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(crate) fn gelu_for_bf16(values: __m512) -> __m512 {
        /// The smaller of two in size, without its sign.
        const SMALLER_SIZE: i32 = 0b1010;
        /// Added to a small number, it leaves the nearest whole one in the lowest bits.
        const MAGIC: f32 = 12_582_912.0;
        let size = _mm512_range_ps::<SMALLER_SIZE>(values, _mm512_set1_ps(31.0 * PIECE));
        let piece = _mm512_fmadd_ps(size, _mm512_set1_ps(1.0 / PIECE), _mm512_set1_ps(MAGIC));
        let piece = _mm512_castps_si512(piece);
        let (c0, c1, c2) = (look_up(0, piece), look_up(1, piece), look_up(2, piece));
        let second = _mm512_fmadd_ps(_mm512_fmadd_ps(c2, size, c1), size, c0);
        // Of two operands `max` gives the second if one is NaN.
        _mm512_add_ps(_mm512_max_ps(_mm512_setzero_ps(), values), second)
    }

    /// The coefficients of `power` of the pieces whose numbers are in the lowest five bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn look_up(power: usize, piece: __m512i) -> __m512 {
        let from = PIECES[power].as_ptr();
        // SAFETY: there are 32 numbers.
        let (low, high) = unsafe { (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))) };
        _mm512_permutex2var_ps(low, piece, high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::multiply_add::Separate;
    use crate::testing;

    unsafe extern "C" {
        /// The C library's, right to the last bit or nearly.
        safe fn erf(value: f64) -> f64;
    }

    fn truth(value: f32) -> f64 {
        let value = f64::from(value);
        0.5 * value * (1.0 + erf(value / std::f64::consts::SQRT_2))
    }

    /// Every way there is here, each with its tolerance.
    fn all(value: f32, test: &str) -> Vec<(f64, f32)> {
        let mut found = vec![(1e-6, gelu::<Separate>(value))];
        #[cfg(target_arch = "x86_64")]
        if testing::has_avx512(test) {
            use std::arch::x86_64::*;
            #[target_feature(enable = "avx512f,avx512dq")]
            fn both(value: f32) -> [f32; 2] {
                let value = _mm512_set1_ps(value);
                [avx512::gelu(value), avx512::gelu_for_bf16(value)].map(|result| _mm512_cvtss_f32(result))
            }
            // SAFETY: the CPU has AVX-512, as was just asked.
            let [exact, short] = unsafe { both(value) };
            found.extend([(1e-6, exact), (4e-5, short)]);
        }
        #[cfg(target_arch = "x86_64")]
        if testing::has_avx2(test) {
            found.push((1e-6, gelu::<crate::multiply_add::Fused>(value)));
        }
        found
    }

    proptest! {
        #[test]
        fn gelu_is_within_its_tolerance(value in prop_oneof![-8.0_f32..8.0, -1000.0_f32..1000.0]) {
            for (tolerance, found) in all(value, "gelu_is_within_its_tolerance") {
                let difference = (f64::from(found) - truth(value)).abs();
                prop_assert!(difference <= tolerance * f64::from(value.abs().max(1.0)), "{difference:e}");
            }
        }
    }

    #[test]
    fn gelu_ends_in_zero_and_in_the_value_itself() {
        for (value, expected) in [(-6.0, 0.0), (-1e30, 0.0), (6.0, 6.0), (1e30, 1e30), (0.0, 0.0)] {
            for (tolerance, found) in all(value, "gelu_ends_in_zero_and_in_the_value_itself") {
                assert_eq!(found, expected, "{tolerance:e}, {value}");
            }
        }
    }

    #[test]
    fn gelu_of_nan_is_nan_and_of_infinity_infinite() {
        for (tolerance, found) in all(f32::NAN, "gelu_of_nan_is_nan_and_of_infinity_infinite") {
            assert!(found.is_nan(), "{tolerance:e}");
        }
        for (tolerance, found) in all(f32::INFINITY, "gelu_of_nan_is_nan_and_of_infinity_infinite") {
            assert_eq!(found, f32::INFINITY, "{tolerance:e}");
        }
    }
}

//! The exact GELU, `v · Φ(v)`, where Φ is the distribution function of the normal distribution.
//!
//! `Φ(|v|) - ½` is `|v| · P(s)`, with `s` the square of `|v|` brought from [0, LIMIT²] to [-1, 1]: there the coefficients
//! fall and f32 is enough for them. Fitted for the least largest error of `v · Φ(v)`, 1.5e-7; the rounding of f32 brings
//! it to 8.5e-7. Beyond the limit Φ is 1 within 1e-7; the fit is a trace above ½ there and is cut off at ½, so that the
//! GELU of a large number is exactly that number, and of a very negative one exactly zero.

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

/// What is rounded to bf16 afterwards, whose half step is 1/512 of a value, gets a shorter polynomial up to a nearer
/// limit: while tiles multiply, only one vector unit is free, and the GELU is what it does most. Within 4e-5.
#[cfg(target_arch = "x86_64")]
const SHORT_LIMIT: f32 = 4.4;
#[cfg(target_arch = "x86_64")]
const SHORT_COEFFICIENTS: [f32; 9] = [
    0.160_404_41,
    -0.078_612_305,
    0.055_250_54,
    -0.040_089_15,
    0.026_802_404,
    -0.015_976_768,
    0.010_988_024,
    -0.007_883_881,
    0.002_754_367,
];

/// The GELU of one value.
pub(crate) fn gelu(value: f32) -> f32 {
    // Not `f32::min`, which would lose a NaN.
    let limited = if value.abs() > LIMIT { LIMIT } else { value.abs() };
    let s = limited * limited * (2.0 / (LIMIT * LIMIT)) - 1.0;
    let sum = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * s + coefficient);
    let half = if limited * sum > 0.5 { 0.5 } else { limited * sum };
    0.5 * value + value.abs() * half
}

/// Sixteen values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use super::{COEFFICIENTS, LIMIT, SHORT_COEFFICIENTS, SHORT_LIMIT};

    /// As exact as f32 allows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn gelu(values: __m512) -> __m512 {
        with(values, LIMIT, &COEFFICIENTS)
    }

    /// For a result that is rounded to bf16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn gelu_for_bf16(values: __m512) -> __m512 {
        with(values, SHORT_LIMIT, &SHORT_COEFFICIENTS)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn with<const N: usize>(values: __m512, limit: f32, coefficients: &[f32; N]) -> __m512 {
        let size = _mm512_abs_ps(values);
        let limited = _mm512_min_ps(size, _mm512_set1_ps(limit));
        let square = _mm512_mul_ps(limited, limited);
        let s = _mm512_fmadd_ps(square, _mm512_set1_ps(2.0 / (limit * limit)), _mm512_set1_ps(-1.0));
        let mut sum = _mm512_set1_ps(coefficients[N - 1]);
        for coefficient in coefficients.iter().rev().skip(1) {
            sum = _mm512_fmadd_ps(sum, s, _mm512_set1_ps(*coefficient));
        }
        let half = _mm512_min_ps(_mm512_mul_ps(limited, sum), _mm512_set1_ps(0.5));
        // A NaN was lost in `min` and comes back here.
        _mm512_fmadd_ps(size, half, _mm512_mul_ps(values, _mm512_set1_ps(0.5)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
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
        let mut found = vec![(1e-6, gelu(value))];
        #[cfg(target_arch = "x86_64")]
        if testing::has_avx512(test) {
            use std::arch::x86_64::*;
            #[target_feature(enable = "avx512f")]
            fn both(value: f32) -> [f32; 2] {
                let value = _mm512_set1_ps(value);
                [avx512::gelu(value), avx512::gelu_for_bf16(value)].map(|result| _mm512_cvtss_f32(result))
            }
            // SAFETY: the CPU has AVX-512, as was just asked.
            let [exact, short] = unsafe { both(value) };
            found.extend([(1e-6, exact), (4e-5, short)]);
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

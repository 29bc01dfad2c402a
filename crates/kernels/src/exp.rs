//! `exp` of f32: 2 to the power `n + f`, `n` whole, and a polynomial for `f` in [0, 1) that is 7.5e-8 from it.

use crate::multiply_add::MultiplyAdd;

/// Coefficients of 2^f on [0, 1], the constant first.
#[cfg(target_arch = "x86_64")]
const TWO_TO_THE: [f32; 6] =
    [0.999_999_9, 0.693_153_1, 0.240_153_62, 0.055_826_3, 0.008_989_362, 0.001_877_567_6];

/// `eˣ` in plain Rust, written so that the compiler turns many of them into vectors: no call, no branch. Relative error
/// below 3e-7 between -87 and 88, beyond which it stays as it is there: 1e-38 and 1e38. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<M: MultiplyAdd>(value: f32) -> f32 {
    /// Added and taken away again, it rounds to a whole number; its low bits then are that number.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
    const LN_2_HIGH: f32 = 0.693_359_4; // few bits, so that its product with a whole number is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // Comparisons let NaN through, f32::clamp would too, but min and max would not.
    let value = if value < -87.0 { -87.0 } else { value };
    let value = if value > 88.0 { 88.0 } else { value };
    let shifted = M::multiply_add(value, std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = M::multiply_add(whole, -LN_2_LOW, M::multiply_add(whole, -LN_2_HIGH, value));
    // e^rest on |rest| ≤ ln 2 / 2, fitted for the least relative error (3e-9 before rounding).
    let p = 0.001_381_461_7;
    let p = M::multiply_add(p, rest, 0.008_368_71);
    let p = M::multiply_add(p, rest, 0.041_668_39);
    let p = M::multiply_add(p, rest, 0.166_665_21);
    let p = M::multiply_add(p, rest, 0.499_999_94);
    let power = M::multiply_add(p * rest, rest, rest) + 1.0;
    power * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// Sixteen values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use super::TWO_TO_THE;

    /// 2 to the power of `values`; within 3e-7 relative. NaN stays NaN, minus infinity gives zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(crate) fn exp2(values: __m512) -> __m512 {
        let fraction = _mm512_reduce_ps::<ROUND_DOWN>(values);
        let mut power = _mm512_set1_ps(TWO_TO_THE[5]);
        for coefficient in TWO_TO_THE.iter().rev().skip(1) {
            power = _mm512_fmadd_ps(power, fraction, _mm512_set1_ps(*coefficient));
        }
        // Multiplies by two to the power of the whole part.
        _mm512_scalef_ps(power, values)
    }

    const ROUND_DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::arch::x86_64::*;

    use proptest::prelude::*;

    use crate::testing;

    fn exp2(value: f32) -> f32 {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn first(value: f32) -> f32 {
            _mm512_cvtss_f32(super::avx512::exp2(_mm512_set1_ps(value)))
        }
        // SAFETY: the callers have asked for AVX-512.
        unsafe { first(value) }
    }

    proptest! {
        #[test]
        fn power_of_two_is_near_the_true_one(value in -125.0_f32..125.0) {
            if testing::has_avx512("power_of_two_is_near_the_true_one") {
                let truth = f64::from(value).exp2();
                prop_assert!((f64::from(exp2(value)) - truth).abs() <= 3e-7 * truth);
            }
        }
    }

    #[test]
    fn limits_are_those_of_exp() {
        if testing::has_avx512("limits_are_those_of_exp") {
            assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp2(-1000.0), 0.0);
            assert_eq!(exp2(f32::INFINITY), f32::INFINITY);
            assert!(exp2(f32::NAN).is_nan());
            assert!((exp2(0.0) - 1.0).abs() < 2e-7);
        }
    }
}

//! The SiLU, `v / (1 + e⁻ᵛ)`.

use crate::exp::exp;
use crate::multiply_add::MultiplyAdd;

/// The SiLU of one value.
#[inline(always)]
pub(crate) fn silu<M: MultiplyAdd>(value: f32) -> f32 {
    value / (1.0 + exp::<M>(-value))
}

/// Sixteen values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use crate::exp::avx512::exp2;

    /// Within 4e-7 relative.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(crate) fn silu(values: __m512) -> __m512 {
        let power = exp2(_mm512_mul_ps(values, _mm512_set1_ps(-std::f32::consts::LOG2_E)));
        _mm512_div_ps(values, _mm512_add_ps(power, _mm512_set1_ps(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::multiply_add::Separate;
    use crate::testing;

    /// Every way there is here.
    fn all(value: f32, test: &str) -> Vec<f32> {
        let mut found = vec![silu::<Separate>(value)];
        #[cfg(target_arch = "x86_64")]
        if testing::has_avx512(test) {
            use std::arch::x86_64::*;
            #[target_feature(enable = "avx512f,avx512dq")]
            fn first(value: f32) -> f32 {
                _mm512_cvtss_f32(avx512::silu(_mm512_set1_ps(value)))
            }
            // SAFETY: the CPU has AVX-512, as was just asked.
            found.push(unsafe { first(value) });
        }
        #[cfg(target_arch = "x86_64")]
        if testing::has_avx2(test) {
            found.push(silu::<crate::multiply_add::Fused>(value));
        }
        found
    }

    proptest! {
        #[test]
        fn silu_is_near_the_true_one(value in prop_oneof![-8.0_f32..8.0, -80.0_f32..1000.0]) {
            let truth = f64::from(value) / (1.0 + (-f64::from(value)).exp());
            for found in all(value, "silu_is_near_the_true_one") {
                let difference = (f64::from(found) - truth).abs();
                // The rounding of the exponent grows with it.
                prop_assert!(difference <= (1e-6 + 2e-7 * f64::from(value.abs())) * truth.abs(), "{difference:e}");
            }
        }
    }

    #[test]
    fn silu_ends_in_zero_and_in_the_value_itself_and_keeps_nan() {
        let test = "silu_ends_in_zero_and_in_the_value_itself_and_keeps_nan";
        assert!(all(-1000.0, test).iter().all(|found| found.abs() < 1e-30));
        assert_eq!(all(1000.0, test), vec![1000.0; all(0.0, test).len()]);
        assert!(all(0.0, test).iter().all(|found| *found == 0.0));
        assert!(all(f32::NAN, test).iter().all(|found| found.is_nan()));
    }
}

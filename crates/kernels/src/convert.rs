//! f32 to bf16 and back.

/// Rounds to the nearest bf16, ties to even; NaN stays NaN, what is too large becomes infinite.
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // The quiet bit keeps it a NaN where all other bits of the payload are cut off.
        return high_half(bits) | 0x40;
    }
    high_half(bits + 0x7fff + (bits >> 16 & 1))
}

/// Exact: bf16 is the upper half of an f32.
pub(crate) fn from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

fn high_half(bits: u32) -> u16 {
    (bits >> 16) as u16
}

/// Sixteen values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use crate::activations::BLOCK;
    use crate::output::avx512::Masks;

    /// Writes 32 values as one line of bf16; lanes outside `masks` become zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(crate) fn store_bf16(to: &mut [u16], masks: Masks, values: [__m512; 2]) {
        let to = &mut to[..BLOCK];
        // SAFETY: the slice has 32 places.
        unsafe { write_bf16(to.as_mut_ptr(), masks, values) }
    }

    /// The same, to where there is room for 32 numbers.
    ///
    /// # Safety
    /// 64 bytes can be written at `to`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(crate) unsafe fn write_bf16(to: *mut u16, masks: Masks, values: [__m512; 2]) {
        let mask = __mmask32::from(masks.0[0]) | __mmask32::from(masks.0[1]) << 16;
        let line = _mm512_maskz_cvtne2ps_pbh(mask, values[1], values[0]);
        // SAFETY: as the caller says; both types are 512 bits of which any pattern is a value.
        unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(line)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_the_even_neighbour() {
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
    }

    #[test]
    fn nan_stays_nan_and_infinity_infinite() {
        assert!(from_bf16(to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
        assert_eq!(from_bf16(to_bf16(f32::NEG_INFINITY)), f32::NEG_INFINITY);
        assert_eq!(from_bf16(to_bf16(f32::MAX)), f32::INFINITY);
    }

    proptest! {
        #[test]
        fn every_bf16_comes_back(bits: u16) {
            let value = from_bf16(bits);
            prop_assert!(value.is_nan() || to_bf16(value) == bits);
        }

        #[test]
        fn rounding_moves_a_value_by_at_most_half_a_step(value in -1e30_f32..1e30) {
            let difference = (from_bf16(to_bf16(value)) - value).abs();
            prop_assert!(difference <= value.abs() / 256.0);
        }
    }
}

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

/// 32 values at once.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use crate::activations::BLOCK;
    use crate::output::avx512::Masks;

    /// How f32 becomes bf16: to the nearest, ties to even.
    pub(crate) trait Rounding {
        /// 32 values; lanes outside `mask` become zero.
        ///
        /// # Safety
        /// The CPU has AVX-512 and what the kind needs beside it.
        unsafe fn line(mask: __mmask32, values: [__m512; 2]) -> __m512i;

        /// Sixteen values.
        ///
        /// # Safety
        /// As of [`Self::line`].
        unsafe fn half(values: __m512) -> __m256i;
    }

    /// By the instruction of CPUs that multiply bf16.
    #[derive(Debug)]
    pub(crate) struct Instruction;

    /// By what every CPU with AVX-512 has.
    #[derive(Debug)]
    pub(crate) struct Plain;

    impl Rounding for Instruction {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn line(mask: __mmask32, values: [__m512; 2]) -> __m512i {
            let line = _mm512_maskz_cvtne2ps_pbh(mask, values[1], values[0]);
            // SAFETY: both types are 512 bits, of which any pattern is a value.
            unsafe { std::mem::transmute::<__m512bh, __m512i>(line) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn half(values: __m512) -> __m256i {
            // SAFETY: both types are 256 bits, of which any pattern is a value.
            unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) }
        }
    }

    impl Rounding for Plain {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw")]
        unsafe fn line(mask: __mmask32, values: [__m512; 2]) -> __m512i {
            let [low, high] = values.map(|values| rounded(values));
            // SAFETY: there are 32 numbers of sixteen bits.
            let upper = unsafe { _mm512_loadu_si512(UPPER_HALVES.as_ptr().cast()) };
            _mm512_maskz_permutex2var_epi16(mask, low, upper, high)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn half(values: __m512) -> __m256i {
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(values)))
        }
    }

    /// The places of the upper halves of the numbers of two registers.
    const UPPER_HALVES: [u16; BLOCK] = {
        let mut places = [0; BLOCK];
        let (mut place, mut upper) = (0, 1);
        while place < BLOCK {
            places[place] = upper;
            place += 1;
            upper += 2;
        }
        places
    };

    /// Values whose upper halves are those of the nearest bf16, as [`to_bf16`](super::to_bf16) has it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rounded(values: __m512) -> __m512i {
        let bits = _mm512_castps_si512(values);
        let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), is_odd);
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000))
    }

    /// Writes 32 values as one line of bf16; lanes outside `masks` become zero. Compiled for the features of whoever calls it.
    ///
    /// # Safety
    /// The CPU has what `R` needs.
    #[inline(always)]
    pub(crate) unsafe fn store_bf16<R: Rounding>(to: &mut [u16], masks: Masks, values: [__m512; 2]) {
        let to = &mut to[..BLOCK];
        // SAFETY: as the caller says; the slice has 32 places.
        unsafe { write_bf16::<R>(to.as_mut_ptr(), masks, values) }
    }

    /// The same, to where there is room for 32 numbers.
    ///
    /// # Safety
    /// As of [`store_bf16`], and 64 bytes can be written at `to`.
    #[inline(always)]
    pub(crate) unsafe fn write_bf16<R: Rounding>(to: *mut u16, masks: Masks, values: [__m512; 2]) {
        let mask = __mmask32::from(masks.0[0]) | __mmask32::from(masks.0[1]) << 16;
        // SAFETY: as the caller says.
        unsafe { _mm512_storeu_si512(to.cast(), R::line(mask, values)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::activations::BLOCK;

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

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn plain_rounding_in_registers_is_that_of_one_value() {
        use crate::output::avx512::Masks;
        if !crate::testing::has_avx512("plain_rounding_in_registers_is_that_of_one_value") {
            return;
        }
        let special = [0.0, -0.0, 1e-40, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1.0];
        let ties = [0x3f80_8000, 0x3f81_8000, 0xffff_ffff, 0x7f80_0001].map(f32::from_bits);
        let numbers = (0_u16..500).map(|number| (f32::from(number) - 250.0) * 1.001);
        let values: Vec<f32> = special.into_iter().chain(ties).chain(numbers).collect();
        for values in values.chunks_exact(BLOCK) {
            let mut found = [0xffff; BLOCK];
            // SAFETY: the CPU has AVX-512; there are 32 values, and room for as many.
            unsafe {
                let all = Masks::first(BLOCK);
                let pair = all.load(values.as_ptr());
                avx512::store_bf16::<avx512::Plain>(&mut found, Masks::first(BLOCK - 1), pair);
                assert_eq!(found[BLOCK - 1], 0);
                avx512::store_bf16::<avx512::Plain>(&mut found, all, pair);
            }
            let wanted: Vec<u16> = values.iter().map(|value| to_bf16(*value)).collect();
            assert_eq!(found[..], wanted[..], "{values:?}");
        }
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

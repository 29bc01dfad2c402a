//! Pairs of numbers of sixteen bits, and the instructions that multiply them.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::bf16::bf16;

/// What a pair of numbers of sixteen bits is, and how pairs are multiplied and added up.
pub(crate) trait Pairs {
    /// Sixteen sums.
    type Sums: Copy;

    /// # Safety
    /// The CPU has AVX-512.
    unsafe fn zeros() -> Self::Sums;

    /// Adds the products of sixteen pairs, both of each to one sum.
    ///
    /// # Safety
    /// The CPU has the instruction for it.
    unsafe fn multiply_add(sums: Self::Sums, left: __m512i, right: __m512i) -> Self::Sums;

    /// The sums as they are written.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    unsafe fn written(sums: Self::Sums) -> __m512;
}

/// Of bf16, sums f32.
#[derive(Debug)]
pub(crate) struct Bf16;

/// Of int16, sums i32, which must not run over and are written in this way.
#[derive(Debug)]
pub(crate) struct Whole<W>(PhantomData<W>);

/// How whole sums are written.
pub(crate) trait Written {
    /// # Safety
    /// The CPU has AVX-512.
    unsafe fn written(sums: __m512i) -> __m512;
}

/// As the nearest floats.
#[derive(Debug)]
pub(crate) struct ToFloats;

/// As they are, i32.
#[derive(Debug)]
pub(crate) struct Exact;

impl Pairs for Bf16 {
    type Sums = __m512;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn zeros() -> __m512 {
        _mm512_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn multiply_add(sums: __m512, left: __m512i, right: __m512i) -> __m512 {
        _mm512_dpbf16_ps(sums, bf16(left), bf16(right))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn written(sums: __m512) -> __m512 {
        sums
    }
}

impl<W: Written> Pairs for Whole<W> {
    type Sums = __m512i;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn zeros() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply_add(sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(sums, left, right)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn written(sums: __m512i) -> __m512 {
        // SAFETY: as the caller says.
        unsafe { W::written(sums) }
    }
}

impl Written for ToFloats {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn written(sums: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(sums)
    }
}

impl Written for Exact {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn written(sums: __m512i) -> __m512 {
        _mm512_castsi512_ps(sums)
    }
}

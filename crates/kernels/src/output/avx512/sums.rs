//! The sums of a block as a product leaves them.

use std::arch::x86_64::*;

use super::{Pair, load};
use crate::activations::BLOCK;

/// Sums `(rows, 32)`, read row by row.
pub(crate) trait Sums: Copy {
    /// Those of no row.
    fn none() -> Self;

    /// The next row with its bias.
    ///
    /// # Safety
    /// The CPU has AVX-512, and there is a next row.
    unsafe fn next(&mut self) -> Pair;
}

/// Floats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floats {
    from: *const f32,
    bias: Pair,
}

impl Floats {
    /// With the bias of a panel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(from: *const f32, bias: &[f32]) -> Self {
        Self { from, bias: load(bias) }
    }
}

impl Sums for Floats {
    #[inline(always)]
    fn none() -> Self {
        Self { from: std::ptr::null(), bias: zeros() }
    }

    #[inline(always)]
    unsafe fn next(&mut self) -> Pair {
        // SAFETY: the caller says that there are 32 numbers.
        let sums = unsafe { [_mm512_loadu_ps(self.from), _mm512_loadu_ps(self.from.add(BLOCK / 2))] };
        self.from = self.from.wrapping_add(BLOCK);
        // SAFETY: the caller says that the CPU has AVX-512.
        unsafe { [_mm512_add_ps(sums[0], self.bias[0]), _mm512_add_ps(sums[1], self.bias[1])] }
    }
}

/// Whole numbers, with a scale for each row and each output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    from: *const i32,
    rows: *const f32,
    outputs: Pair,
    bias: Pair,
}

impl Whole {
    /// With the scales of `rows`, and those of a panel's `outputs` with their bias.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(from: *const i32, rows: &[f32], outputs: &[f32], bias: &[f32]) -> Self {
        Self { from, rows: rows.as_ptr(), outputs: load(outputs), bias: load(bias) }
    }
}

impl Sums for Whole {
    #[inline(always)]
    fn none() -> Self {
        Self { from: std::ptr::null(), rows: std::ptr::null(), outputs: zeros(), bias: zeros() }
    }

    #[inline(always)]
    unsafe fn next(&mut self) -> Pair {
        let mut values = zeros();
        for (half, value) in values.iter_mut().enumerate() {
            // SAFETY: the caller says that there are 32 numbers and a scale, and that the CPU has AVX-512.
            *value = unsafe {
                let whole = _mm512_loadu_si512(self.from.add(half * BLOCK / 2).cast());
                let factor = _mm512_mul_ps(self.outputs[half], _mm512_set1_ps(*self.rows));
                // Not fused: the sums are those of every tier, bit for bit.
                _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(whole), factor), self.bias[half])
            };
        }
        self.from = self.from.wrapping_add(BLOCK);
        self.rows = self.rows.wrapping_add(1);
        values
    }
}

/// Written without an instruction, so that anybody may ask for it.
#[inline(always)]
fn zeros() -> Pair {
    // SAFETY: zeros are a value of the type.
    unsafe { std::mem::zeroed() }
}

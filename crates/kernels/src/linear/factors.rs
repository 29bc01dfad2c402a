//! What the sums of a product stand for.

use crate::activations::BLOCK;
use crate::output::avx512::sums::{Floats, Sums, Whole};

/// What is multiplied, and what its sums stand for.
pub(crate) trait Factors: Copy {
    type Sums: Sums;

    /// The sums that lie at `from`: of `row` and those behind it, counted from the first of the share, and of `panel`,
    /// whose `bias` comes first.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    unsafe fn sums(self, from: *const f32, row: usize, panel: usize, bias: &[f32]) -> Self::Sums;
}

/// Rows and weights in bf16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16;

/// Whole numbers: what one of each row stands for, and of each output of the layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaled<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) outputs: &'a [f32],
}

impl Factors for Bf16 {
    type Sums = Floats;

    #[inline(always)]
    unsafe fn sums(self, from: *const f32, _row: usize, _panel: usize, bias: &[f32]) -> Floats {
        // SAFETY: as the caller says.
        unsafe { Floats::new(from, bias) }
    }
}

impl Factors for Scaled<'_> {
    type Sums = Whole;

    #[inline(always)]
    unsafe fn sums(self, from: *const f32, row: usize, panel: usize, bias: &[f32]) -> Whole {
        // SAFETY: as the caller says.
        unsafe { Whole::new(from.cast(), &self.rows[row..], &self.outputs[panel * BLOCK..], bias) }
    }
}

//! Whole numbers in tile registers, as those of bf16 are multiplied; each sum has a scale of its row and one of its output.

use super::Product;
use crate::activations::BLOCK;
use crate::aligned::bytes;
use crate::linear::Share;
use crate::linear::amx::{self, Factors, Numbers};
use crate::output::Sink;
use crate::output::avx512::sums::Whole;

/// # Safety
/// The CPU has AMX int8 and the kernel permits it, and nobody else computes these rows and panels.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn apply(product: Product<'_>, sink: Sink<'_>, sums: &mut [f32]) {
    let Product { left, first, rows, weights, first_panel, end_panel, steps, bias, .. } = product;
    let share = Share { rows: first..first + rows, panels: first_panel..end_panel };
    let scaled = Scaled { rows: left.scales(), outputs: &weights.scales };
    let product = amx::Product::new(scaled, left.lines(), (bytes(&weights.values), bias), steps, &share);
    // SAFETY: as the caller says.
    unsafe { amx::apply(product, sink, sums) };
}

/// What a whole number of each row stands for, and of each output of the layer.
#[derive(Debug, Clone, Copy)]
struct Scaled<'a> {
    rows: &'a [f32],
    outputs: &'a [f32],
}

impl Factors for Scaled<'_> {
    const NUMBERS: Numbers = Numbers::Int8;
    type Sums = Whole;

    #[inline(always)]
    unsafe fn sums(self, from: *const f32, row: usize, panel: usize, bias: &[f32]) -> Whole {
        // SAFETY: as the caller says.
        unsafe { Whole::new(from.cast(), &self.rows[row..], &self.outputs[panel * BLOCK..], bias) }
    }
}

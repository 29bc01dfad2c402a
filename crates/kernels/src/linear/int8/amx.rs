//! Whole numbers in tile registers, as those of bf16 are multiplied; each sum has a scale of its row and one of its output.

use super::Product;
use crate::aligned::bytes;
use crate::linear::Share;
use crate::linear::amx;
use crate::linear::factors::Scaled;
use crate::output::Sink;

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

//! `x · Wᵀ`, block by block.
//!
//! ```text
//!  for each panel of 32 outputs      (read from memory once, then in the L1 cache)
//!    for each block of rows          (in the L2 cache)
//!      sums (rows, 32) ─▶ sink       (in the L1 cache)
//! ```

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod int8;
pub(crate) mod portable;

use crate::activations::{Activations, BLOCK, Layout};
use crate::output::Sink;
#[cfg(target_arch = "x86_64")]
use crate::output::{self, Place};
use crate::packed::{PackedLinear, Weights};
use crate::scratch::Scratch;

/// Computes the product, its shapes checked by the caller.
pub(crate) fn apply(linear: &PackedLinear, input: &Activations, mut sink: Sink<'_>, scratch: &mut Scratch) {
    match (&linear.weights, &input.layout) {
        #[cfg(target_arch = "x86_64")]
        (Weights::Tiles(weights), Layout::Blocks { values, stride }) => {
            let product = amx::Product {
                left: values,
                stride: *stride,
                rows: input.rows(),
                weights,
                steps: linear.inputs().div_ceil(BLOCK),
                bias: &linear.bias,
            };
            // SAFETY: weights in tiles are made for a tier with AMX bf16 only, and a tier proves that the CPU has it.
            unsafe { amx::apply(product, &mut sink, &mut scratch.sums) }
        }
        #[cfg(target_arch = "x86_64")]
        (Weights::Panels(weights), Layout::Rows(values)) => {
            let rows = &values[..input.rows() * input.width()];
            apply_panels(linear, weights, rows, &mut sink, &mut scratch.sums);
        }
        (Weights::Matrix(weights), Layout::Rows(values)) => {
            let rows = &values[..input.rows() * input.width()];
            portable::apply(linear, weights, rows, &mut sink, &mut scratch.sums);
        }
        (Weights::Int8(weights), _) => int8::apply(linear, weights, input, &mut sink, scratch),
        _ => unreachable!("the tier of the input was checked"),
    }
}

#[cfg(target_arch = "x86_64")]
fn apply_panels(linear: &PackedLinear, weights: &[f32], rows: &[f32], sink: &mut Sink<'_>, sums: &mut [f32]) {
    let depth = linear.inputs();
    for (panel, weights) in weights.chunks_exact(depth * BLOCK).enumerate() {
        for (block, left) in rows.chunks(ROWS * depth).enumerate() {
            let place = Place { row: block * ROWS, rows: left.len() / depth, panel };
            let left = Left { values: left, stride: depth, rows: place.rows };
            multiply(left, weights, sums, BLOCK);
            // SAFETY: weights in panels are made for the tier with AVX-512 only, and a tier proves that the CPU has it.
            unsafe { output::avx512::finish_rows(sink, place, sums, &linear.bias, 0..place.rows) };
        }
    }
}

/// Rows that share a stretch of weights while it is in the L1 cache; their inputs stay in the L2 cache. As many sums
/// are kept where a product has several stretches.
pub(crate) const ROWS_TOGETHER: usize = 256;

/// Rows of f32 that are multiplied at once.
#[cfg(target_arch = "x86_64")]
pub(crate) const ROWS: usize = 12;

/// Up to [`ROWS`] rows, `stride` values from one to the next.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// `left` times a panel `(depth, 32)`, into `sums` `(rows, 32)` whose rows are `sums_stride` apart. Only for the tier with
/// AVX-512, which alone has panels.
///
/// # Panics
/// If a slice is too short for the shape.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiply(left: Left<'_>, panel: &[f32], sums: &mut [f32], sums_stride: usize) {
    let depth = panel.len() / BLOCK;
    let last = left.rows - 1;
    assert!(left.rows <= ROWS && depth <= left.stride && last * left.stride + depth <= left.values.len());
    assert!(last * sums_stride + BLOCK <= sums.len());
    // SAFETY: panels are made for a tier that proves AVX-512; the shapes are checked above.
    unsafe { avx512::multiply(left, panel, sums, sums_stride) }
}

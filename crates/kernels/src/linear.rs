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
use crate::output::{self, Place, Sink};
use crate::packed::{PackedLinear, Weights};
use crate::scratch::Scratch;
use crate::tier::Kind;

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
        (Weights::Panels(weights), Layout::Rows(values)) => {
            let rows = &values[..input.rows() * input.width()];
            apply_panels(linear, weights, rows, &mut sink, &mut scratch.sums);
        }
        (Weights::Int8(weights), _) => int8::apply(linear, weights, input, &mut sink, scratch),
        _ => unreachable!("the tier of the input was checked"),
    }
}

fn apply_panels(linear: &PackedLinear, weights: &[f32], rows: &[f32], sink: &mut Sink<'_>, sums: &mut [f32]) {
    let depth = linear.inputs();
    for (panel, weights) in weights.chunks_exact(depth * BLOCK).enumerate() {
        for (block, left) in rows.chunks(ROWS * depth).enumerate() {
            let place = Place { row: block * ROWS, rows: left.len() / depth, panel };
            let left = Left { values: left, stride: depth, rows: place.rows };
            multiply(linear.tier().kind(), left, weights, sums, BLOCK);
            match linear.tier().kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the tier proves that the CPU has AVX-512.
                Kind::Avx512 => unsafe {
                    output::avx512::finish_rows(sink, place, sums, &linear.bias, 0..place.rows);
                },
                _ => output::portable::finish(sink, place, sums, &linear.bias),
            }
        }
    }
}

/// Rows that share a stretch of weights while it is in the L1 cache; their inputs stay in the L2 cache. As many sums
/// are kept where a product has several stretches.
pub(crate) const ROWS_TOGETHER: usize = 256;

/// Rows of f32 that are multiplied at once.
pub(crate) const ROWS: usize = 12;

/// Up to [`ROWS`] rows, `stride` values from one to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// `left` times a panel `(depth, 32)`, into `sums` `(rows, 32)` whose rows are `sums_stride` apart.
///
/// # Panics
/// If a slice is too short for the shape.
pub(crate) fn multiply(kind: Kind, left: Left<'_>, panel: &[f32], sums: &mut [f32], sums_stride: usize) {
    let depth = panel.len() / BLOCK;
    let last = left.rows - 1;
    assert!(left.rows <= ROWS && depth <= left.stride && last * left.stride + depth <= left.values.len());
    assert!(last * sums_stride + BLOCK <= sums.len());
    match kind {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the kind comes out of a tier, which proves that the CPU has AVX-512; the shapes are checked above.
        Kind::Avx512 => unsafe { avx512::multiply(left, panel, sums, sums_stride) },
        _ => portable::multiply(left, panel, sums, sums_stride),
    }
}

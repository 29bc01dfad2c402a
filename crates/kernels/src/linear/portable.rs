//! The product by the crate `gemm`, which chooses vectors at run time, on CPUs that have no kernel of ours.

use gemm::{Parallelism, gemm};

use super::Share;
use crate::activations::BLOCK;
use crate::output::{Place, Sink, portable};
use crate::packed::PackedLinear;

/// Rows and columns of the sums that are finished at once: they should stay in the L2 cache.
pub(crate) const ROWS: usize = 128;
pub(crate) const COLUMNS: usize = 256;

/// A matrix in memory: where it begins, and how far apart its rows and its columns are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Matrix<'_> {
    fn assert_holds(&self, rows: usize, columns: usize) {
        let last = (rows - 1) * self.row + (columns - 1) * self.column;
        assert!(last < self.values.len(), "{rows} rows of {columns} in {} values", self.values.len());
    }
}

/// `left` `(rows, depth)` times `right` `(depth, columns)`, into `to`, whose rows are `stride` apart. None of the sizes
/// `[rows, depth, columns]` is 0.
///
/// # Panics
/// If a slice is too short for the shape.
pub(crate) fn multiply(
    [rows, depth, columns]: [usize; 3],
    left: Matrix<'_>,
    right: Matrix<'_>,
    to: &mut [f32],
    stride: usize,
) {
    left.assert_holds(rows, depth);
    right.assert_holds(depth, columns);
    assert!((rows - 1) * stride + columns <= to.len());
    let signed = usize::cast_signed;
    // SAFETY: all three matrices lie within their slices, as asserted, and `to` is borrowed for writing.
    unsafe {
        gemm(
            rows,
            columns,
            depth,
            to.as_mut_ptr(),
            1,
            signed(stride),
            false,
            left.values.as_ptr(),
            signed(left.column),
            signed(left.row),
            right.values.as_ptr(),
            signed(right.column),
            signed(right.row),
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// One linear layer: `weights` `(inputs, outputs)`, outputs padded to whole panels.
///
/// # Safety
/// Nobody else computes this share.
pub(super) unsafe fn apply(
    linear: &PackedLinear,
    weights: &[f32],
    rows: &[f32],
    (sink, share): (Sink<'_>, Share),
    sums: &mut [f32],
) {
    let (depth, outputs) = (linear.inputs(), linear.bias.len());
    for row in share.rows.clone().step_by(ROWS) {
        let count = ROWS.min(share.rows.end - row);
        let left = Matrix { values: &rows[row * depth..], row: depth, column: 1 };
        for first in share.panels.clone().step_by(COLUMNS / BLOCK) {
            let panels = first..share.panels.end.min(first + COLUMNS / BLOCK);
            let columns = panels.len() * BLOCK;
            let right = Matrix { values: &weights[first * BLOCK..], row: outputs, column: 1 };
            multiply([count, depth, columns], left, right, sums, columns);
            for panel in panels {
                let place = Place { row, rows: count, panel };
                // SAFETY: as the caller says.
                unsafe {
                    portable::finish(sink, place, (&sums[(panel - first) * BLOCK..], columns), &linear.bias);
                }
            }
        }
    }
}

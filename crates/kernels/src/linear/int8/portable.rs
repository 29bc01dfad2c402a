//! Whole numbers in plain Rust: the twin of the other multipliers, with the same sums.

use super::{LINE, Left, STEP, TILE};
use crate::activations::BLOCK;

/// Rows are int8; `sums` has as many rows of 32.
pub(super) fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    for (row, to) in sums.chunks_exact_mut(BLOCK).enumerate() {
        to.copy_from_slice(begins);
        for (step, tiles) in panel.chunks_exact(STEP).enumerate() {
            let values = &left.lines[(step * left.stride + row) * LINE..][..LINE];
            for (tile, to) in tiles.chunks_exact(TILE).zip(to.chunks_exact_mut(16)) {
                for (values, line) in values.chunks_exact(4).zip(tile.chunks_exact(LINE)) {
                    for (to, weights) in to.iter_mut().zip(line.chunks_exact(4)) {
                        let products = values.iter().zip(weights);
                        *to += products.map(|(x, w)| i32::from(x.cast_signed()) * i32::from(*w)).sum::<i32>();
                    }
                }
            }
        }
    }
}

/// Makes floats of the `whole` sums `(rows, 32)`, with the scales of 32 outputs and of the rows.
#[inline(always)]
pub(super) fn to_floats(whole: &[i32], outputs: &[f32], rows: &[f32], floats: &mut [f32]) {
    let lines = whole.chunks_exact(BLOCK).zip(floats.chunks_exact_mut(BLOCK));
    for ((whole, floats), row) in lines.zip(rows) {
        for ((float, whole), output) in floats.iter_mut().zip(whole).zip(outputs) {
            *float = *whole as f32 * (row * output);
        }
    }
}

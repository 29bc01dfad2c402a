//! Attention in f32 by the crate `gemm`, which reads keys and values where they lie.

use super::sight::Sight;
use super::{Part, softmax};
use crate::activations::BLOCK;
use crate::linear::portable::{Matrix, multiply};
use crate::scratch::Scratch;
use crate::shared::SharedSlice;

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// Nobody else writes to this part of `out`.
pub(super) unsafe fn attend(qkv: &[f32], part: Part<'_>, out: SharedSlice<'_, f32>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let (hidden, width) = (heads.hidden(), heads.width);
    let stride = 3 * hidden;
    let Scratch { scores, sums, .. } = scratch;
    let mut factors = [0.0; BLOCK];
    for query in (0..tokens).step_by(BLOCK) {
        let rows = BLOCK.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let (first, keys) = (start + sight.blocks().start * BLOCK, sight.keys());
        let at = |token: usize, column: usize| &qkv[token * stride + column..];
        let queries = Matrix { values: at(start + query, columns[0]), row: stride, column: 1 };
        let transposed = Matrix { values: at(first, columns[1]), row: 1, column: stride };
        multiply([rows, width, keys], queries, transposed, scores, keys);
        for (row, scores) in scores.chunks_exact_mut(keys).take(rows).enumerate() {
            sight.limit(row, scores);
            factors[row] = 1.0 / softmax::portable::in_place(scores, heads.scale);
        }
        let weights = Matrix { values: scores, row: keys, column: 1 };
        let values = Matrix { values: at(first, columns[2]), row: stride, column: 1 };
        multiply([rows, keys, width], weights, values, sums, width);
        for (row, (sums, factor)) in sums.chunks_exact(width).zip(&factors).take(rows).enumerate() {
            let at = (start + query + row) * hidden + columns[0];
            // SAFETY: these columns of these rows are of this part.
            let out = unsafe { out.part(at..at + width) };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor);
        }
    }
}

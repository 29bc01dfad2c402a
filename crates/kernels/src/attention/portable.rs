//! Attention in f32 by the crate `gemm`, which reads keys and values where they lie.

use super::Part;
use super::sight::Sight;
use crate::activations::BLOCK;
use crate::exp::exp;
use crate::linear::portable::{Matrix, multiply};
use crate::scratch::Scratch;
use crate::shared::SharedSlice;

/// Partial sums kept side by side, so that the compiler may add them in vectors.
const LANES: usize = 16;

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
            factors[row] = 1.0 / softmax(scores, heads.scale);
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

/// Replaces scores by e to the power `scale · (score - max)` and returns their sum.
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let max = max(scores);
    scores.iter_mut().for_each(|score| *score = exp((*score - max) * scale));
    let mut lanes = [0.0; LANES];
    let groups = scores.chunks_exact(LANES);
    let rest: f32 = groups.remainder().iter().sum();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, score)| *lane += score);
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest score; NaN only if all are.
fn max(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let groups = scores.chunks_exact(LANES);
    let rest = groups.remainder().iter().fold(f32::NEG_INFINITY, |max, &score| larger(score, max));
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, &score)| *lane = larger(score, *lane));
    }
    lanes.iter().fold(rest, |max, &score| larger(score, max))
}

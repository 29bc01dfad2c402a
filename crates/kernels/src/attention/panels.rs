//! Attention in f32: keys and values become panels, and the products are those of a linear layer.

use super::Part;
use super::sight::Sight;
use crate::activations::BLOCK;
use crate::linear::{Left, ROWS, multiply};
use crate::scratch::{Scratch, Text};
use crate::shared::SharedSlice;

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// Nobody else writes to this part of `out`.
pub(super) unsafe fn attend(qkv: &[f32], part: Part<'_>, out: SharedSlice<'_, f32>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let (hidden, width, stride) = (heads.hidden(), heads.width, 3 * heads.hidden());
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Panels { keys, values } = text else { unreachable!("panels are the layout of this tier") };
    pack_keys(&qkv[start * stride + columns[1]..], part, keys);
    pack_values(&qkv[start * stride + columns[2]..], part, values);
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let (seen, stride_scores) = (sight.blocks(), sight.blocks().len() * BLOCK);
        let queries = Left { values: &qkv[(start + query) * stride + columns[0]..], stride, rows };
        let keys = &keys[seen.start * BLOCK * width..seen.end * BLOCK * width];
        for (block, keys) in keys.chunks_exact(width * BLOCK).enumerate() {
            multiply(queries, keys, &mut scores[block * BLOCK..], stride_scores);
        }
        let mut factors = [0.0; ROWS];
        for (row, factor) in factors.iter_mut().take(rows).enumerate() {
            let scores = &mut scores[row * stride_scores..][..sight.keys()];
            sight.limit(row, scores);
            *factor = 1.0 / softmax(scores, heads.scale());
        }
        for (block, values) in values[..tokens * width].chunks_exact(tokens * BLOCK).enumerate() {
            let values = &values[seen.start * BLOCK * BLOCK..][..sight.keys() * BLOCK];
            let weights = Left { values: scores, stride: stride_scores, rows };
            multiply(weights, values, sums, BLOCK);
            for (row, factor) in factors.iter().take(rows).enumerate() {
                let at = (start + query + row) * hidden + columns[0] + block * BLOCK;
                // SAFETY: these columns of these rows are of this part.
                let out = unsafe { out.part(at..at + BLOCK) };
                out.iter_mut().zip(&sums[row * BLOCK..]).for_each(|(out, sum)| *out = sum * factor);
            }
        }
    }
}

/// For every 32 keys `(width, 32)`; places without a key stay zero.
fn pack_keys(keys: &[f32], part: Part<'_>, packed: &mut [f32]) {
    let (width, stride) = (part.heads.width, 3 * part.heads.hidden());
    packed[part.tokens / BLOCK * BLOCK * width..]
        .iter_mut()
        .take(BLOCK * width)
        .for_each(|place| *place = 0.0);
    for token in 0..part.tokens {
        let panel = &mut packed[token / BLOCK * BLOCK * width..][..BLOCK * width];
        for (column, value) in keys[token * stride..][..width].iter().enumerate() {
            panel[column * BLOCK + token % BLOCK] = *value;
        }
    }
}

/// For every 32 columns `(tokens, 32)`.
fn pack_values(values: &[f32], part: Part<'_>, packed: &mut [f32]) {
    let (width, stride) = (part.heads.width, 3 * part.heads.hidden());
    for token in 0..part.tokens {
        for (block, from) in values[token * stride..][..width].chunks_exact(BLOCK).enumerate() {
            packed[(block * part.tokens + token) * BLOCK..][..BLOCK].copy_from_slice(from);
        }
    }
}

/// Replaces scores by 2 to the power `scale · (score - max)` and returns their sum.
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    // SAFETY: panels are the layout of the tier with AVX-512 only, and a tier proves that the CPU has it.
    unsafe { super::softmax::in_place(scores, scale) }
}

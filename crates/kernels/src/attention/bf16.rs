//! Attention in bf16 by 512-bit registers: keys and values become panels of bf16, and the products are those of a linear
//! layer.

use std::arch::x86_64::*;

use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::{Lines, LinesMut, Part, softmax};
use crate::activations::BLOCK;
use crate::convert::avx512::store_bf16;
use crate::linear::ROWS;
use crate::linear::bf16::{self, multiply};
use crate::output::avx512::Masks;
use crate::packed::TILE;
use crate::scratch::{Scratch, Text};

/// Lines of the weights of 32 keys: one for each query that is computed at once, and some to spare.
const WEIGHTS_STRIDE: usize = BLOCK / 2;

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AVX-512 and bf16, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights } = text else {
        unreachable!("tiles are the layout of this tier")
    };
    let (blocks, steps) = (tokens.div_ceil(BLOCK), heads.width / BLOCK);
    let (keys, values) =
        (&mut keys[..blocks * BLOCK * heads.width], &mut values[..blocks * BLOCK * heads.width]);
    pack_keys(qkv, part, keys);
    pack_values(qkv, part, values);
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let (seen, stride) = (sight.blocks(), sight.blocks().len() * BLOCK);
        let queries = bf16::Lines { values: qkv.from(columns[0], start + query), stride: qkv.1, rows };
        let keys = &keys[seen.start * steps * 2 * TILE..seen.end * steps * 2 * TILE];
        for (block, keys) in keys.chunks_exact(steps * 2 * TILE).enumerate() {
            multiply(queries, keys, &mut scores[block * BLOCK..], stride);
        }
        let mut factors = [0.0; ROWS];
        for (row, factor) in factors.iter_mut().take(rows).enumerate() {
            let scores = &mut scores[row * stride..][..sight.keys()];
            sight.limit(row, scores);
            let weights = &mut weights[row * BLOCK..];
            *factor = 1.0 / softmax::avx512::to_bf16(scores, heads.scale(), weights, WEIGHTS_STRIDE * BLOCK);
        }
        for (step, values) in values.chunks_exact(blocks * 2 * TILE).enumerate() {
            let values = &values[seen.start * 2 * TILE..seen.end * 2 * TILE];
            multiply(bf16::Lines { values: weights, stride: WEIGHTS_STRIDE, rows }, values, sums, BLOCK);
            // SAFETY: these lines are of this part.
            let lines = unsafe { out.lines(columns[0] + step * BLOCK, start + query, rows) };
            divide(sums, &factors, lines);
        }
    }
}

/// Writes `sums` `(rows, 32)`, each row times its factor, as lines of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn divide(sums: &[f32], factors: &[f32], to: &mut [u16]) {
    let all = Masks::first(BLOCK);
    for ((line, sums), factor) in to.chunks_exact_mut(BLOCK).zip(sums.chunks_exact(BLOCK)).zip(factors) {
        let factor = _mm512_set1_ps(*factor);
        // SAFETY: there are 32 sums.
        let [low, high] = unsafe { all.load(sums.as_ptr()) };
        store_bf16(line, all, [_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)]);
    }
}

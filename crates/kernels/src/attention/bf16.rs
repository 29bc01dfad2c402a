//! Attention in bf16 by 512-bit registers: keys and values become panels of bf16, and the products are those of a linear
//! layer.

use std::arch::x86_64::*;

use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::softmax::avx512::{add_up, to_bf16};
use super::softmax::powers::{self, Powers};
use super::{Lines, LinesMut, Part};
use crate::activations::BLOCK;
use crate::convert::avx512::{Instruction, Rounding, store_bf16};
use crate::linear::ROWS;
use crate::linear::bf16::{self, multiply};
use crate::output::avx512::Masks;
use crate::packed::TILE;
use crate::scratch::{Scratch, Text};

/// Lines of the weights of 32 keys: one for each query that is computed at once, and some to spare.
const WEIGHTS_STRIDE: usize = BLOCK / 2;

/// What the groups of queries of one text and head share.
#[derive(Debug, Clone, Copy)]
struct Shared<'a> {
    qkv: Lines<'a>,
    part: Part<'a>,
    /// Steps of 32 columns.
    steps: usize,
    keys: &'a [u16],
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AVX-512 and bf16, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights, .. } = text else {
        unreachable!("tiles are the layout of this tier")
    };
    let (blocks, steps) = (tokens.div_ceil(BLOCK), heads.width / BLOCK);
    let (keys, values) =
        (&mut keys[..blocks * BLOCK * heads.width], &mut values[..blocks * BLOCK * heads.width]);
    pack_keys(qkv, part, keys);
    pack_values(qkv, part, values);
    let shared = Shared { qkv, part, steps, keys };
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let factors = match shared.weigh(query, rows, (scores, weights)) {
            Some(factors) => factors,
            None => shared.weigh_carefully(query, rows, (scores, weights)),
        };
        let seen = sight.blocks();
        for (step, values) in values.chunks_exact(blocks * 2 * TILE).enumerate() {
            let values = &values[seen.start * 2 * TILE..seen.end * 2 * TILE];
            multiply(bf16::Lines { values: weights, stride: WEIGHTS_STRIDE, rows }, values, sums, BLOCK);
            // SAFETY: these lines are of this part.
            unsafe {
                let lines = out.lines(columns[0] + step * BLOCK, start + query, rows);
                divide::<Instruction>(sums, &factors, lines);
            }
        }
    }
}

impl Shared<'_> {
    fn queries(&self, query: usize, rows: usize) -> bf16::Lines<'_> {
        let Lines(_, stride) = self.qkv;
        bf16::Lines { values: self.qkv.from(self.part.columns[0], self.part.start + query), stride, rows }
    }

    /// Makes weights of the scores of one block of keys after the other, while they are in the L1 cache, and without a look
    /// at the largest first. Gives one over the sum of each row's weights; nothing where a score is too large for that, or
    /// heads do something to scores.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn weigh(
        &self,
        query: usize,
        rows: usize,
        (scores, weights): (&mut [f32], &mut [u16]),
    ) -> Option<[f32; ROWS]> {
        let Part { tokens, heads, .. } = self.part;
        if heads.window.is_some() || heads.bias.is_some() {
            return None;
        }
        let queries = self.queries(query, rows);
        let scores = &mut scores[..rows.next_multiple_of(powers::ROWS) * BLOCK];
        // Rows that are no query's: what the last group left there must not decide over this one.
        scores[rows * BLOCK..].fill(0.0);
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let mut is_within = true;
        for (block, keys) in self.keys.chunks_exact(self.steps * 2 * TILE).enumerate() {
            multiply(queries, keys, scores, BLOCK);
            let weights = &mut weights[block * WEIGHTS_STRIDE * BLOCK..][..scores.len()];
            let keys = BLOCK.min(tokens - block * BLOCK);
            let mut powers = Powers::new(keys, heads.scale());
            powers.write(scores, weights);
            is_within &= powers.are_within();
            add_up(weights, &mut sums);
        }
        is_within.then(|| sums.map(|sum| 1.0 / _mm512_reduce_add_ps(sum)))
    }

    /// The same with all that heads do to scores, and with the largest of each row subtracted.
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn weigh_carefully(
        &self,
        query: usize,
        rows: usize,
        (scores, weights): (&mut [f32], &mut [u16]),
    ) -> [f32; ROWS] {
        let sight = Sight::new(self.part, query, rows);
        let (seen, stride) = (sight.blocks(), sight.blocks().len() * BLOCK);
        let keys = &self.keys[seen.start * self.steps * 2 * TILE..seen.end * self.steps * 2 * TILE];
        for (block, keys) in keys.chunks_exact(self.steps * 2 * TILE).enumerate() {
            multiply(self.queries(query, rows), keys, &mut scores[block * BLOCK..], stride);
        }
        let mut factors = [0.0; ROWS];
        for (row, factor) in factors.iter_mut().take(rows).enumerate() {
            let scores = &mut scores[row * stride..][..sight.keys()];
            sight.limit(row, scores);
            let (weights, scale) = (&mut weights[row * BLOCK..], self.part.heads.scale());
            *factor = 1.0 / to_bf16(scores, scale, weights, WEIGHTS_STRIDE * BLOCK);
        }
        factors
    }
}

/// Writes `sums` `(rows, 32)`, each row times its factor, as lines of bf16. Compiled for the features of whoever calls it.
///
/// # Safety
/// The CPU has AVX-512 and what `R` needs.
#[inline(always)]
pub(super) unsafe fn divide<R: Rounding>(sums: &[f32], factors: &[f32], to: &mut [u16]) {
    let all = Masks::first(BLOCK);
    for ((line, sums), factor) in to.chunks_exact_mut(BLOCK).zip(sums.chunks_exact(BLOCK)).zip(factors) {
        // SAFETY: as the caller says; there are 32 sums.
        unsafe {
            let factor = _mm512_set1_ps(*factor);
            let [low, high] = all.load(sums.as_ptr());
            store_bf16::<R>(line, all, [_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)]);
        }
    }
}

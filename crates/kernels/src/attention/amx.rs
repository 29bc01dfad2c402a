//! Attention in tile registers. Queries are tiles as they lie; keys and values are brought into the order of weights.
//!
//! ```text
//!  sixteen queries ─▶ scores (16, tokens of the text) ─▶ weights ─▶ results (16, 32), sums of the weights
//!                       of the next sixteen meanwhile
//! ```
//! Weights are powers of two of scaled scores, and are divided by their sum. The largest score is only subtracted where
//! one is so large that its power would not fit.

mod tiles;

use std::arch::x86_64::*;

use self::tiles::{RESULT, begin, load_ones, score, store_results, store_scores, weigh};
use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::{Lines, LinesMut, Part, softmax};
use crate::activations::BLOCK;
use crate::convert::avx512::write_bf16;
use crate::linear::amx::LeftTiles;
use crate::output::avx512::Masks;
use crate::packed::TILE;
use crate::scratch::{Scratch, Text};

/// Queries that are computed at once.
const GROUP: usize = 16;

/// Scores of a group and 32 keys.
const SCORES: usize = GROUP * BLOCK;

/// What the groups of queries of one text and head share.
#[derive(Debug, Clone, Copy)]
struct Shared<'a> {
    qkv: Lines<'a>,
    part: Part<'a>,
    /// Blocks of 32 keys.
    blocks: usize,
    /// Steps of 32 columns.
    steps: usize,
    keys: &'a [u16],
    values: &'a [u16],
}

/// What they write to.
#[derive(Debug)]
struct Written<'a> {
    /// Sixteen rows of all keys, for those groups only that need all at once.
    scores: &'a mut [f32],
    /// Sixteen rows of 32 keys, of this block and of the next.
    block_scores: [&'a mut [f32]; 2],
    /// For every 32 keys sixteen lines.
    weights: &'a mut [u16],
    results: &'a mut [f32],
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AMX bf16, [`Tiles`](crate::linear::amx::Tiles) are configured, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights } = text else {
        unreachable!("tiles are the layout of this tier")
    };
    let blocks = part.tokens.div_ceil(BLOCK);
    let padded = blocks * BLOCK;
    let (keys, values) = (&mut keys[..padded * part.heads.width], &mut values[..padded * part.heads.width]);
    pack_keys(qkv, part, keys);
    pack_values(qkv, part, values);
    let shared = Shared { qkv, part, blocks, steps: part.heads.width / BLOCK, keys, values };
    let (results, rest) = sums.split_at_mut(GROUP * RESULT);
    let (block, next_block) = rest[..2 * SCORES].split_at_mut(SCORES);
    let mut written = Written {
        scores: &mut scores[..GROUP * padded],
        block_scores: [block, next_block],
        weights: &mut weights[..GROUP * padded],
        results,
    };
    // SAFETY: tiles are configured.
    unsafe {
        load_ones();
        if part.heads.window.is_none() && part.heads.bias.is_none() {
            shared.attend_block_by_block(&mut written, out);
        } else {
            for query in (0..part.tokens).step_by(GROUP) {
                shared.weigh_carefully(query, &mut written);
                shared.finish(query, &mut written, out);
            }
        }
    }
}

impl Shared<'_> {
    /// Sixteen queries at each step; behind the last token lies something that is never used.
    fn queries(&self, query: usize) -> LeftTiles {
        let Lines(_, stride) = self.qkv;
        let last = (self.steps - 1) * stride + GROUP;
        let lines = &self.qkv.from(self.part.columns[0], self.part.start + query)[..last * BLOCK];
        LeftTiles { start: lines.as_ptr(), step: stride * BLOCK }
    }

    /// The first tile of 32 keys.
    fn keys(&self, block: usize) -> *const u16 {
        self.keys[block * self.steps * 2 * TILE..][..self.steps * 2 * TILE].as_ptr()
    }

    /// Group and block of a turn.
    fn at(&self, turn: usize) -> (usize, usize) {
        (turn / self.blocks, turn % self.blocks)
    }

    /// Computes the scores of the group and the keys of a turn.
    ///
    /// # Safety
    /// [`Tiles`](crate::linear::amx::Tiles) are configured.
    #[inline(always)]
    unsafe fn score(&self, turn: usize, scores: &mut [f32]) {
        let (group, block) = self.at(turn);
        // SAFETY: as the caller says; the slices of queries, keys and scores are as long as is needed.
        unsafe {
            score(self.queries(group * GROUP), self.keys(block), self.steps);
            store_scores(scores[..SCORES].as_mut_ptr(), BLOCK);
        }
    }

    /// Makes weights of scores. False if one was too large.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn raise(&self, turn: usize, scores: &mut [f32], weights: &mut [u16]) -> bool {
        let (group, block) = self.at(turn);
        let queries = GROUP.min(self.part.tokens - group * GROUP);
        let rows = queries.next_multiple_of(softmax::avx512::ROWS);
        // Rows that are no query's, but of the text behind this one, must not decide over it.
        scores[queries * BLOCK..rows * BLOCK].fill(0.0);
        let weights = &mut weights[block * TILE..][..rows * BLOCK];
        let keys = BLOCK.min(self.part.tokens - block * BLOCK);
        softmax::avx512::powers(&scores[..rows * BLOCK], keys, self.part.heads.scale(), weights)
    }

    /// All groups and blocks of keys, a turn each: tiles compute the scores of the next turn and the results of the one
    /// before while the vector units make weights of the scores of this one.
    ///
    /// # Safety
    /// As of [`attend`].
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn attend_block_by_block(&self, written: &mut Written<'_>, out: LinesMut<'_>) {
        let turns = self.part.tokens.div_ceil(GROUP) * self.blocks;
        let mut is_within = true;
        // SAFETY: tiles are configured.
        unsafe {
            self.score(0, written.block_scores[0]);
            for turn in 0..turns {
                if turn + 1 < turns {
                    self.score(turn + 1, written.block_scores[1]);
                }
                is_within &= self.raise(turn, written.block_scores[0], written.weights);
                written.block_scores.swap(0, 1);
                let (group, block) = self.at(turn);
                match block {
                    0 => begin(),
                    _ => self.weigh_block(block - 1, block - 1, 0, written.weights),
                }
                if block + 1 == self.blocks {
                    self.weigh_block(block, block, 0, written.weights);
                    if !is_within {
                        self.weigh_carefully(group * GROUP, written);
                    }
                    self.finish(group * GROUP, written, out);
                    is_within = true;
                }
            }
        }
    }

    /// Stores the results of a group, divides them, and computes those of the other columns with the same weights.
    ///
    /// # Safety
    /// As of [`attend`].
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn finish(&self, query: usize, written: &mut Written<'_>, out: LinesMut<'_>) {
        let rows = GROUP.min(self.part.tokens - query);
        for block in 0..self.steps {
            let column = self.part.columns[0] + block * BLOCK;
            // SAFETY: tiles are configured, and these lines are of this part.
            unsafe {
                if block > 0 {
                    self.weigh(Sight::new(self.part, query, rows), block, written.weights);
                }
                store_results(written.results.as_mut_ptr());
                divide(written.results, out.lines(column, self.part.start + query, rows));
            }
        }
    }

    /// Computes the results of a group with the largest score of each query subtracted, and with what heads do to scores.
    ///
    /// # Safety
    /// [`Tiles`](crate::linear::amx::Tiles) are configured.
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn weigh_carefully(&self, query: usize, written: &mut Written<'_>) {
        let rows = GROUP.min(self.part.tokens - query);
        let sight = Sight::new(self.part, query, rows);
        let stride = sight.blocks().len() * BLOCK;
        let scores = &mut written.scores[..GROUP * stride];
        let queries = self.queries(query);
        for (index, block) in sight.blocks().enumerate() {
            // SAFETY: tiles are configured; there are as many rows of scores, `stride` apart.
            unsafe {
                score(queries, self.keys(block), self.steps);
                store_scores(scores[index * BLOCK..].as_mut_ptr(), stride);
            }
        }
        let weights = &mut *written.weights;
        for row in 0..rows {
            let scores = &mut scores[row * stride..][..sight.keys()];
            sight.limit(row, scores);
            softmax::avx512::to_bf16(
                scores,
                self.part.heads.scale(),
                &mut weights[row * BLOCK..],
                GROUP * BLOCK,
            );
        }
        // SAFETY: tiles are configured.
        unsafe { self.weigh(sight, 0, weights) };
    }

    /// Adds the values of a block of 32 columns up with the weights.
    ///
    /// # Safety
    /// [`Tiles`](crate::linear::amx::Tiles) are configured.
    unsafe fn weigh(&self, sight: Sight<'_>, columns: usize, weights: &[u16]) {
        // SAFETY: as the caller says.
        unsafe {
            begin();
            for (index, block) in sight.blocks().enumerate() {
                self.weigh_block(index, block, columns, weights);
            }
        }
    }

    /// # Safety
    /// [`Tiles`](crate::linear::amx::Tiles) are configured.
    #[inline]
    unsafe fn weigh_block(&self, index: usize, block: usize, columns: usize, weights: &[u16]) {
        let weights = &weights[index * TILE..][..TILE];
        let values = &self.values[(columns * self.blocks + block) * 2 * TILE..][..2 * TILE];
        // SAFETY: tiles are configured; the slices are as long as the tiles.
        unsafe { weigh(weights.as_ptr(), values.as_ptr()) };
    }
}

/// Writes results, each row divided by the sum of its weights, as lines of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn divide(results: &[f32], to: &mut [u16]) {
    for (line, results) in to.chunks_exact_mut(BLOCK).zip(results.chunks_exact(RESULT)) {
        // SAFETY: a row of results has three times sixteen values, and a line room for 32.
        unsafe {
            let [low, high, sum] = [0, 16, 32].map(|column| _mm512_loadu_ps(results.as_ptr().add(column)));
            // Within 2⁻¹⁴, and bf16 is within 2⁻⁸.
            let factor = _mm512_rcp14_ps(sum);
            let values = [_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)];
            write_bf16(line.as_mut_ptr(), Masks::first(BLOCK), values);
        }
    }
}

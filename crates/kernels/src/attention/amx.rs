//! Attention in tile registers. Queries are tiles as they lie; keys and values are brought into the order of weights.
//!
//! ```text
//!  sixteen queries, 32 keys ─▶ scores (16, 32) ─▶ weights ─▶ results (16, 32), sums of the weights
//!   a turn of the tiles:       of the one after            of the one before
//! ```
//! Weights are powers of two of scaled scores, and are divided by their sum. The largest score is only subtracted where
//! one is so large that its power would not fit.
//!
//! While vector units make weights of the scores of one turn, four rows at a time, tiles multiply for its neighbours
//! between these rows: a CPU cannot look far enough ahead to mix a turn of both itself.

mod tiles;

use std::arch::x86_64::*;

use self::tiles::{
    RESULT, begin, load_ones, score, store_first_scores, store_results, store_second_scores, weigh,
};
use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::softmax::avx512::to_bf16;
use super::softmax::powers::{All, FirstHalf, HALF, Keys, MoreThanHalf, Powers, ROWS};
use super::{Lines, LinesMut, Part};
use crate::activations::BLOCK;
use crate::convert::avx512::{Instruction, write_bf16};
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

/// What is done at once: sixteen queries from `query` on, and a block of 32 keys.
#[derive(Debug, Clone, Copy)]
struct Turn {
    query: usize,
    block: usize,
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
    let Text::Tiles { keys, values, weights, .. } = text else {
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

    /// Whether there is such a turn.
    fn has(&self, turn: Turn) -> bool {
        turn.query < self.part.tokens
    }

    /// Whether the queries of a turn are done after it.
    fn is_last(&self, turn: Turn) -> bool {
        turn.block + 1 == self.blocks
    }

    fn after(&self, turn: Turn) -> Turn {
        if self.is_last(turn) {
            Turn { query: turn.query + GROUP, block: 0 }
        } else {
            Turn { block: turn.block + 1, ..turn }
        }
    }

    /// Computes the scores of a turn, if there is one; they stay in their tiles.
    ///
    /// # Safety
    /// [`Tiles`](crate::linear::amx::Tiles) are configured.
    #[inline(always)]
    unsafe fn score(&self, turn: Turn) {
        if self.has(turn) {
            // SAFETY: as the caller says; the slices of queries and keys are as long as is needed.
            unsafe { score(self.queries(turn.query), self.keys(turn.block), self.steps) };
        }
    }

    /// All groups and blocks of keys, a turn each.
    ///
    /// # Safety
    /// As of [`attend`].
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn attend_block_by_block(&self, written: &mut Written<'_>, out: LinesMut<'_>) {
        let first = Turn { query: 0, block: 0 };
        let (mut turn, mut owed, mut is_within) = (first, None, true);
        // SAFETY: tiles are configured, and the scores of a turn have room for sixteen rows of 32.
        unsafe {
            self.score(first);
            let scores = written.block_scores[0][..SCORES].as_mut_ptr();
            store_first_scores(scores, BLOCK);
            store_second_scores(scores.add(HALF), BLOCK);
            self.score(self.after(first));
            begin();
            while self.has(turn) {
                is_within &= match self.part.tokens - turn.block * BLOCK {
                    BLOCK.. => self.turn::<All>(turn, owed, written, out),
                    keys if keys > HALF => self.turn::<MoreThanHalf>(turn, owed, written, out),
                    _ => self.turn::<FirstHalf>(turn, owed, written, out),
                };
                owed = Some(turn);
                let next = self.after(turn);
                if self.is_last(turn) {
                    // A turn finishes what the one before has left if that is one block of columns with these weights.
                    if !self.has(next) || self.steps > 1 || !is_within {
                        self.finish_now(turn, is_within, written, out);
                        owed = None;
                    }
                    is_within = true;
                }
                turn = next;
            }
        }
    }

    /// Makes weights of the scores of a turn. Meanwhile tiles multiply the weights of the turn `owed`, and compute the
    /// scores of the turn after the next. False if a score was too large.
    ///
    /// # Safety
    /// As of [`attend`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn turn<K: Keys>(
        &self,
        turn: Turn,
        owed: Option<Turn>,
        written: &mut Written<'_>,
        out: LinesMut<'_>,
    ) -> bool {
        let next = self.after(turn);
        let Written { block_scores: [scores, next_scores], weights, results, .. } = written;
        let done = owed.filter(|owed| self.is_last(*owed));
        let next_scores = next_scores[..SCORES].as_mut_ptr();
        // SAFETY: tiles are configured; there is room for the scores of a turn and for results, and the lines are of this
        // part.
        unsafe {
            if self.has(next) {
                store_first_scores(next_scores, BLOCK);
            }
            if let Some(owed) = owed {
                self.weigh_block(owed.block, owed.block, 0, weights);
            }
            if done.is_some() {
                store_results(results.as_mut_ptr());
                begin();
            }
            let mut raise = Raise::new(self.part, turn, scores, weights);
            raise.four::<K>(0);
            if self.has(next) {
                store_second_scores(next_scores.add(HALF), BLOCK);
            }
            raise.four::<K>(1);
            self.score(self.after(next));
            raise.four::<K>(2);
            raise.four::<K>(3);
            let is_within = raise.powers.are_within();
            if let Some(done) = done {
                self.divide(done.query, 0, results, out);
            }
            written.block_scores.swap(0, 1);
            is_within
        }
    }

    /// Finishes the group of a turn, which is its last, with no other work meanwhile.
    ///
    /// # Safety
    /// As of [`attend`].
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn finish_now(&self, turn: Turn, is_within: bool, written: &mut Written<'_>, out: LinesMut<'_>) {
        // SAFETY: as the caller says.
        unsafe {
            if is_within {
                self.weigh_block(turn.block, turn.block, 0, written.weights);
            } else {
                self.weigh_carefully(turn.query, written);
                // That needed the tiles of these scores.
                self.score(self.after(self.after(turn)));
            }
            self.finish(turn.query, written, out);
            begin();
        }
    }

    /// Divides the results of a group, of a block of columns.
    ///
    /// # Safety
    /// As of [`attend`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn divide(&self, query: usize, columns: usize, results: &[f32], out: LinesMut<'_>) {
        let column = self.part.columns[0] + columns * BLOCK;
        let rows = GROUP.min(self.part.tokens - query);
        // SAFETY: these lines are of this part.
        divide(results, unsafe { out.lines(column, self.part.start + query, rows) });
    }

    /// Stores the results of a group, divides them, and computes those of the other columns with the same weights.
    ///
    /// # Safety
    /// As of [`attend`].
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn finish(&self, query: usize, written: &mut Written<'_>, out: LinesMut<'_>) {
        let rows = GROUP.min(self.part.tokens - query);
        for columns in 0..self.steps {
            // SAFETY: tiles are configured, and these lines are of this part.
            unsafe {
                if columns > 0 {
                    self.weigh(Sight::new(self.part, query, rows), columns, written.weights);
                }
                store_results(written.results.as_mut_ptr());
                self.divide(query, columns, written.results, out);
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
                let scores = scores[index * BLOCK..].as_mut_ptr();
                store_first_scores(scores, stride);
                store_second_scores(scores.add(HALF), stride);
            }
        }
        let weights = &mut *written.weights;
        for row in 0..rows {
            let scores = &mut scores[row * stride..][..sight.keys()];
            sight.limit(row, scores);
            to_bf16(scores, self.part.heads.scale(), &mut weights[row * BLOCK..], GROUP * BLOCK);
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

/// Makes weights of the scores of a group and a block of keys, four rows at a time.
struct Raise<'a> {
    powers: Powers,
    /// All rows, the last four filled up.
    scores: &'a [f32],
    weights: &'a mut [u16],
}

impl<'a> Raise<'a> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(
        part: Part<'_>,
        Turn { query, block }: Turn,
        scores: &'a mut [f32],
        weights: &'a mut [u16],
    ) -> Self {
        let queries = GROUP.min(part.tokens - query);
        let rows = queries.next_multiple_of(ROWS);
        // Rows that are no query's, but of the text behind this one, must not decide over it.
        scores[queries * BLOCK..rows * BLOCK].fill(0.0);
        let keys = BLOCK.min(part.tokens - block * BLOCK);
        Self {
            powers: Powers::new(keys, part.heads.scale()),
            scores: &scores[..rows * BLOCK],
            weights: &mut weights[block * TILE..][..rows * BLOCK],
        }
    }

    /// Those of the rows from `4 · index` on, if there are any.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    unsafe fn four<K: Keys>(&mut self, index: usize) {
        let numbers = index * ROWS * BLOCK..(index + 1) * ROWS * BLOCK;
        if numbers.end <= self.scores.len() {
            let (scores, weights) = (&self.scores[numbers.clone()], &mut self.weights[numbers]);
            // SAFETY: as the caller says, and both are four rows.
            unsafe { K::write(&mut self.powers, scores.as_ptr(), weights.as_mut_ptr()) };
        }
    }
}

/// Writes results, each row divided by the sum of its weights, as lines of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn divide(results: &[f32], to: &mut [u16]) {
    for (line, results) in to.chunks_exact_mut(BLOCK).zip(results.chunks_exact(RESULT)) {
        // SAFETY: a row of results has three times sixteen values, and a line room for 32.
        unsafe {
            let [low, high, sum] = [0, 16, 32].map(|column| _mm512_loadu_ps(results.as_ptr().add(column)));
            // Within 2⁻¹⁴, and bf16 is within 2⁻⁸.
            let factor = _mm512_rcp14_ps(sum);
            let values = [_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)];
            write_bf16::<Instruction>(line.as_mut_ptr(), Masks::first(BLOCK), values);
        }
    }
}

//! Attention in tile registers. Queries are tiles as they lie; keys and values are brought into the order of weights.

use std::arch::x86_64::*;

use super::sight::Sight;
use super::{Part, softmax};
use crate::activations::BLOCK;
use crate::convert::avx512::store_bf16;
use crate::linear::amx::{LeftTiles, multiply, store};
use crate::output::avx512::Masks;
use crate::packed::TILE;
use crate::scratch::{Scratch, Text};

/// Blocks of bf16, and how many lines a block has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<'a>(pub(super) &'a [u16], pub(super) usize);

/// The same to write to.
#[derive(Debug)]
pub(super) struct LinesMut<'a>(pub(super) &'a mut [u16], pub(super) usize);

impl<'a> Lines<'a> {
    /// The lines of a block from `row` on.
    fn from(self, column: usize, row: usize) -> &'a [u16] {
        &self.0[(column / BLOCK * self.1 + row) * BLOCK..]
    }
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AMX bf16, and [`Tiles`](crate::linear::amx::Tiles) are configured.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, factors, text, .. } = scratch;
    let Text::Tiles { keys, values, weights } = text else {
        unreachable!("tiles are the layout of this tier")
    };
    let steps = heads.width / BLOCK;
    let blocks = tokens.div_ceil(BLOCK);
    let padded = blocks * BLOCK;
    pack_keys(qkv, part, &mut keys[..padded * heads.width]);
    pack_values(qkv, part, &mut values[..padded * heads.width]);
    assert!(padded * BLOCK <= scores.len() && padded * BLOCK <= weights.len());
    for query in (0..tokens).step_by(BLOCK) {
        let rows = BLOCK.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let seen = sight.blocks();
        let stride = seen.len() * BLOCK;
        let queries = &qkv.from(columns[0], start + query)[..(steps - 1) * qkv.1 * BLOCK + BLOCK * BLOCK];
        let queries = LeftTiles { start: queries.as_ptr(), step: qkv.1 * BLOCK };
        let keys = &keys[seen.start * 2 * steps * TILE..seen.end * 2 * steps * TILE];
        for (block, keys) in keys.chunks_exact(2 * steps * TILE).enumerate() {
            // SAFETY: the slices of queries and keys are as long as the steps reach; scores have 32 rows of `stride`.
            unsafe {
                multiply(queries, keys.as_ptr(), steps, rows);
                store(scores[block * BLOCK..].as_mut_ptr(), stride, rows);
            }
        }
        for row in 0..rows {
            let scores = &mut scores[row * stride..][..sight.keys()];
            sight.limit(row, scores);
            let weights = &mut weights[row * BLOCK..];
            factors[row] = 1.0 / softmax::to_bf16(scores, heads.scale(), weights, BLOCK * BLOCK);
        }
        let weights = LeftTiles { start: weights.as_ptr(), step: BLOCK * BLOCK };
        for (block, values) in values[..padded * heads.width].chunks_exact(2 * blocks * TILE).enumerate() {
            let values = &values[seen.start * 2 * TILE..seen.end * 2 * TILE];
            // SAFETY: weights have a block of 32 lines for each block in sight, and values a pair of tiles; sums have 32
            // rows of 32.
            unsafe {
                multiply(weights, values.as_ptr(), seen.len(), rows);
                store(sums.as_mut_ptr(), BLOCK, rows);
            }
            let to = ((columns[0] / BLOCK + block) * out.1 + start + query) * BLOCK;
            divide(sums, factors, &mut out.0[to..][..rows * BLOCK]);
        }
    }
}

/// Writes `sums` `(rows, 32)`, each row times its factor, as lines of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn divide(sums: &[f32], factors: &[f32], to: &mut [u16]) {
    let rows = to.chunks_exact_mut(BLOCK).zip(sums.chunks_exact(BLOCK).zip(factors));
    for (line, (sums, factor)) in rows {
        let factor = _mm512_set1_ps(*factor);
        // SAFETY: a row of sums has 32 values.
        let values = unsafe { [_mm512_loadu_ps(sums.as_ptr()), _mm512_loadu_ps(sums.as_ptr().add(16))] };
        store_bf16(line, Masks::first(BLOCK), values.map(|half| _mm512_mul_ps(half, factor)));
    }
}

/// For every 32 keys and 32 columns two tiles of (16 pairs of columns, 16 keys); places without a key are zero.
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_keys(qkv: Lines<'_>, part: Part<'_>, packed: &mut [u16]) {
    let steps = part.heads.width / BLOCK;
    for (index, tile) in packed.chunks_exact_mut(TILE).enumerate() {
        let (block, step, half) = (index / 2 / steps, index / 2 % steps, index % 2);
        let first = block * BLOCK + half * 16;
        let lines = qkv.from(part.columns[1] + step * BLOCK, part.start + first.min(part.tokens));
        let count = part.tokens.saturating_sub(first).min(16);
        let mut keys = [_mm512_setzero_si512(); 16];
        for (key, line) in keys.iter_mut().zip(lines.chunks_exact(BLOCK)).take(count) {
            // SAFETY: a line is 64 bytes.
            *key = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
        }
        transpose(&mut keys);
        for (line, pair) in tile.chunks_exact_mut(BLOCK).zip(keys) {
            // SAFETY: a line is 64 bytes.
            unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), pair) };
        }
    }
}

/// Swaps rows and columns of sixteen rows of sixteen 32-bit numbers: halves, then quarters, then eighths, then pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; 16]) {
    let mut distance = 8_usize;
    while distance > 0 {
        // SAFETY: both arrays are 64 bytes, and any bits are a value.
        let (low, high) = unsafe {
            (
                _mm512_loadu_si512(SWAPS[distance.ilog2() as usize][0].as_ptr().cast()),
                _mm512_loadu_si512(SWAPS[distance.ilog2() as usize][1].as_ptr().cast()),
            )
        };
        for row in (0..16).filter(|row| row & distance == 0) {
            let (upper, lower) = (rows[row], rows[row + distance]);
            rows[row] = _mm512_permutex2var_epi32(upper, low, lower);
            rows[row + distance] = _mm512_permutex2var_epi32(upper, high, lower);
        }
        distance /= 2;
    }
}

/// For the distances 1, 2, 4 and 8 between two rows: which numbers of both the first takes, and which the second.
/// Numbers of the second row count from 16.
static SWAPS: [[[u32; 16]; 2]; 4] = {
    let mut swaps = [[[0; 16]; 2]; 4];
    let mut stage = 0;
    while stage < 4 {
        let distance = 1 << stage;
        let mut lane = 0;
        while lane < 16 {
            let first = lane & distance == 0;
            swaps[stage][0][lane as usize] = if first { lane } else { 16 + lane - distance };
            swaps[stage][1][lane as usize] = if first { lane + distance } else { 16 + lane };
            lane += 1;
        }
        stage += 1;
    }
    swaps
};

/// For every 32 columns and 32 values two tiles of (16 pairs of tokens, 16 columns); missing tokens are zero.
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_values(qkv: Lines<'_>, part: Part<'_>, packed: &mut [u16]) {
    let steps = part.tokens.div_ceil(BLOCK);
    // SAFETY: the arrays are 64 bytes, and any bits are a value.
    let order = unsafe { PAIRS.each_ref().map(|order| _mm512_loadu_si512(order.as_ptr().cast())) };
    for (index, tiles) in packed.chunks_exact_mut(2 * TILE).enumerate() {
        let (block, step) = (index / steps, index % steps);
        let lines = qkv.from(part.columns[2] + block * BLOCK, part.start + step * BLOCK);
        let count = BLOCK.min(part.tokens - step * BLOCK);
        for pair in 0..16 {
            let line = |token: usize| {
                // SAFETY: the slice is 64 bytes.
                let load = || unsafe { _mm512_loadu_si512(lines[token * BLOCK..][..BLOCK].as_ptr().cast()) };
                if token < count { load() } else { _mm512_setzero_si512() }
            };
            let (even, odd) = (line(2 * pair), line(2 * pair + 1));
            for half in 0..2 {
                let mixed = _mm512_permutex2var_epi16(even, order[half], odd);
                let to = &mut tiles[half * TILE + pair * BLOCK..][..BLOCK];
                // SAFETY: the slice is 64 bytes.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), mixed) };
            }
        }
    }
}

/// Columns 0 to 15, and 16 to 31, of two lines side by side. Columns of the second line count from 32.
static PAIRS: [[u16; 32]; 2] = {
    let mut pairs = [[0; 32]; 2];
    let mut column = 0;
    while column < 32 {
        let half = (column / 16) as usize;
        let place = (column % 16 * 2) as usize;
        pairs[half][place] = column;
        pairs[half][place + 1] = 32 + column;
        column += 1;
    }
    pairs
};

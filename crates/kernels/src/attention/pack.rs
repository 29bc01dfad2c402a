//! Keys and values of a text and head in the order of packed weights of bf16, for tiles and for 512-bit registers.

use std::arch::x86_64::*;

use super::{Lines, Part};
use crate::activations::BLOCK;
use crate::packed::TILE;

/// What stands for a missing key or value.
#[repr(align(64))]
struct Line([u16; BLOCK]);

static ZEROS: Line = Line([0; BLOCK]);

/// For every 32 keys and 32 columns two tiles of (16 pairs of columns, 16 keys); places without a key are zero, but for a
/// second tile without any, which stays as it is.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack_keys(qkv: Lines<'_>, part: Part<'_>, packed: &mut [u16]) {
    let steps = part.heads.width / BLOCK;
    for (index, tile) in packed.chunks_exact_mut(TILE).enumerate() {
        let (block, step, half) = (index / 2 / steps, index / 2 % steps, index % 2);
        let first = block * BLOCK + half * 16;
        if first >= part.tokens {
            continue;
        }
        let count = (part.tokens - first).min(16);
        let lines = &qkv.from(part.columns[1] + step * BLOCK, part.start + first)[..count * BLOCK];
        let mut keys = [_mm512_setzero_si512(); 16];
        for (row, key) in keys.iter_mut().enumerate() {
            let line = if row < count { lines.as_ptr().wrapping_add(row * BLOCK) } else { ZEROS.0.as_ptr() };
            // SAFETY: a line is 64 bytes.
            *key = unsafe { _mm512_loadu_si512(line.cast()) };
        }
        for (line, pair) in tile.chunks_exact_mut(BLOCK).zip(transposed(keys)) {
            // SAFETY: a line is 64 bytes.
            unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), pair) };
        }
    }
}

/// Swaps rows and columns of sixteen rows of sixteen 32-bit numbers: first within four rows and each quarter of a row,
/// then the quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut fours = [_mm512_setzero_si512(); 16];
    for four in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[4 * four + row]);
        let (low_ab, high_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low_cd, high_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[four] = _mm512_unpacklo_epi64(low_ab, low_cd);
        fours[4 + four] = _mm512_unpackhi_epi64(low_ab, low_cd);
        fours[8 + four] = _mm512_unpacklo_epi64(high_ab, high_cd);
        fours[12 + four] = _mm512_unpackhi_epi64(high_ab, high_cd);
    }
    // Each quarter of `fours[4 · c + four]` now is column `4 · quarter + c` of four rows.
    let mut columns = [_mm512_setzero_si512(); 16];
    for c in 0..4 {
        let [a, b, c_, d] = [0, 1, 2, 3].map(|four| fours[4 * c + four]);
        let (even_ab, odd_ab) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<ODD>(a, b));
        let (even_cd, odd_cd) = (_mm512_shuffle_i32x4::<EVEN>(c_, d), _mm512_shuffle_i32x4::<ODD>(c_, d));
        columns[c] = _mm512_shuffle_i32x4::<EVEN>(even_ab, even_cd);
        columns[4 + c] = _mm512_shuffle_i32x4::<EVEN>(odd_ab, odd_cd);
        columns[8 + c] = _mm512_shuffle_i32x4::<ODD>(even_ab, even_cd);
        columns[12 + c] = _mm512_shuffle_i32x4::<ODD>(odd_ab, odd_cd);
    }
    columns
}

/// For every 32 columns and 32 values two tiles of (16 pairs of tokens, 16 columns); missing tokens are zero. A pair are
/// tokens sixteen apart, as the weights of softmax lie.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack_values(qkv: Lines<'_>, part: Part<'_>, packed: &mut [u16]) {
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
            let (first, second) = (line(pair), line(16 + pair));
            for half in 0..2 {
                let mixed = _mm512_permutex2var_epi16(first, order[half], second);
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

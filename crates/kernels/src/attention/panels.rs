//! Attention in f32: keys and values become panels, and the products are those of a linear layer.

use std::arch::x86_64::*;

use super::sight::Sight;
use super::{Heads, Part, softmax};
use crate::activations::BLOCK;
use crate::linear::{Left, ROWS, multiply};
use crate::scratch::{Scratch, Text};
use crate::shared::SharedSlice;
use crate::tier::PanelKind;

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// Nobody else writes to this part of `out`.
pub(super) unsafe fn attend(qkv: &[f32], part: Part<'_>, out: SharedSlice<'_, f32>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let (hidden, width, stride) = (heads.hidden(), heads.width, 3 * heads.hidden());
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Panels { kind, keys, values } = text else {
        unreachable!("panels are the layout of this tier")
    };
    let kind = *kind;
    // SAFETY: panels are the layout of the tiers with AVX2, which all have that have AVX-512.
    unsafe { pack_keys(&qkv[start * stride + columns[1]..], part, keys) };
    pack_values(&qkv[start * stride + columns[2]..], part, values);
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let (seen, stride_scores) = (sight.blocks(), sight.blocks().len() * BLOCK);
        let queries = Left { values: &qkv[(start + query) * stride + columns[0]..], stride, rows };
        let keys = &keys[seen.start * BLOCK * width..seen.end * BLOCK * width];
        for (block, keys) in keys.chunks_exact(width * BLOCK).enumerate() {
            multiply(kind, queries, keys, (&mut scores[block * BLOCK..], stride_scores));
        }
        let mut factors = [0.0; ROWS];
        for (row, factor) in factors.iter_mut().take(rows).enumerate() {
            let scores = &mut scores[row * stride_scores..][..stride_scores];
            sight.limit(row, &mut scores[..sight.keys()]);
            *factor = 1.0 / weigh(kind, scores, sight.keys(), heads);
        }
        for (block, values) in values[..tokens * width].chunks_exact(tokens * BLOCK).enumerate() {
            let values = &values[seen.start * BLOCK * BLOCK..][..sight.keys() * BLOCK];
            let weights = Left { values: scores, stride: stride_scores, rows };
            multiply(kind, weights, values, (sums, BLOCK));
            for (row, factor) in factors.iter().take(rows).enumerate() {
                let at = (start + query + row) * hidden + columns[0] + block * BLOCK;
                // SAFETY: these columns of these rows are of this part.
                let out = unsafe { out.part(at..at + BLOCK) };
                out.iter_mut().zip(&sums[row * BLOCK..]).for_each(|(out, sum)| *out = sum * factor);
            }
        }
    }
}

/// For every 32 keys `(width, 32)`, eight keys and eight columns at a time; places without a key are zero.
#[target_feature(enable = "avx2")]
fn pack_keys(keys: &[f32], part: Part<'_>, packed: &mut [f32]) {
    let (width, stride) = (part.heads.width, 3 * part.heads.hidden());
    for first in (0..part.tokens.next_multiple_of(BLOCK)).step_by(LANES) {
        let panel = &mut packed[first / BLOCK * BLOCK * width..][..BLOCK * width];
        for column in (0..width).step_by(LANES) {
            let mut rows = [_mm256_setzero_ps(); LANES];
            for (key, row) in (first..part.tokens).zip(&mut rows) {
                let key = &keys[key * stride + column..][..LANES];
                // SAFETY: there are eight columns.
                *row = unsafe { _mm256_loadu_ps(key.as_ptr()) };
            }
            for (place, row) in transposed(rows).into_iter().enumerate() {
                let to = &mut panel[(column + place) * BLOCK + first % BLOCK..][..LANES];
                // SAFETY: there is room for eight keys.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), row) };
            }
        }
    }
}

/// Numbers in a register of 256 bits.
const LANES: usize = 8;

/// Swaps rows and columns: first within four rows and each half of a row, then the halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transposed(rows: [__m256; LANES]) -> [__m256; LANES] {
    const LOW: i32 = 0b01_00_01_00;
    const HIGH: i32 = 0b11_10_11_10;
    let fours = |[a, b, c, d]: [__m256; 4]| {
        let (low_ab, high_ab) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (low_cd, high_cd) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<LOW>(low_ab, low_cd),
            _mm256_shuffle_ps::<HIGH>(low_ab, low_cd),
            _mm256_shuffle_ps::<LOW>(high_ab, high_cd),
            _mm256_shuffle_ps::<HIGH>(high_ab, high_cd),
        ]
    };
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    // Each half of `first[c]` is column `c`, or `c + 4`, of the first four rows; `second` is the same of the others.
    let (first, second) = (fours([r0, r1, r2, r3]), fours([r4, r5, r6, r7]));
    let mut columns = [_mm256_setzero_ps(); LANES];
    for (column, (first, second)) in first.into_iter().zip(second).enumerate() {
        columns[column] = _mm256_permute2f128_ps::<0x20>(first, second);
        columns[column + 4] = _mm256_permute2f128_ps::<0x31>(first, second);
    }
    columns
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

/// Replaces the first `keys` of whole blocks of scores by their weights and returns the sum of these.
fn weigh(kind: PanelKind, scores: &mut [f32], keys: usize, heads: Heads<'_>) -> f32 {
    // SAFETY: panels are the layout of the tiers with AVX-512 and AVX2 only, and a tier proves that the CPU has it.
    unsafe {
        match kind {
            PanelKind::Avx512 => softmax::avx512::in_place(&mut scores[..keys], heads.scale()),
            PanelKind::Avx2 => {
                scores[keys..].fill(f32::NEG_INFINITY);
                softmax::portable::in_place_avx2(scores, heads.scale)
            }
        }
    }
}

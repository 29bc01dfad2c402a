//! The same from f32 to f32, in 256-bit registers. A query has a scale of its own here.

use std::arch::x86_64::*;

use super::super::panels::transposed;
use super::super::sight::Sight;
use super::super::softmax::whole::{WEIGHT_MAX, avx2::weigh};
use super::super::{Heads, Part};
use super::{STEP, WEIGHTS_STRIDE, Written, query_max};
use crate::activations::BLOCK;
use crate::linear::bf16::Lines;
use crate::linear::whole::avx2::{End, multiply};
use crate::linear::{CACHE_LINE_BYTES, ROWS, fetch};
use crate::packed::TILE;
use crate::quantise::Scale;
use crate::quantise::avx2::{COLUMNS, Sizes, whole_of};
use crate::scratch::{Scratch, Text};
use crate::shared::SharedSlice;

/// Keys whose products are added up in whole numbers.
const KEYS_TOGETHER: u16 = 128;
/// Numbers of the values of these in 32 columns.
const STRETCH: usize = KEYS_TOGETHER as usize / BLOCK * STEP;

/// The largest size of a value: sums of that many keys do not run over.
const VALUE_MAX: i32 = i32::MAX / WEIGHT_MAX / KEYS_TOGETHER as i32;

/// Some columns of the rows of a text.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    count: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// Of `part`, its queries, keys or values, whose number is `which`.
    fn of(qkv: &'a [f32], part: Part<'_>, which: usize) -> Self {
        let (stride, width) = (3 * part.heads.hidden(), part.heads.width);
        Self { values: &qkv[part.start * stride + part.columns[which]..], stride, count: part.tokens, width }
    }

    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }

    /// Fetches the same columns of the next head: those of a head lie far apart, in an order that no CPU foresees.
    fn fetch_next(self) {
        const NUMBERS_OF_LINE: usize = CACHE_LINE_BYTES / size_of::<f32>();
        for row in 0..self.count {
            let next = self.values.as_ptr().wrapping_add(row * self.stride + self.width);
            fetch(next, self.width / NUMBERS_OF_LINE);
        }
    }

    /// A scale for all numbers of all rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(self, whole_max: f32) -> Scale {
        let mut sizes = Sizes::none();
        for row in 0..self.count {
            sizes.add(self.row(row));
        }
        Scale::within(whole_max, sizes.largest())
    }

    /// Sixteen numbers of a row as whole ones; zeros where there is no such row.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn whole(self, row: usize, column: usize, scale: Scale) -> __m256i {
        if row < self.count {
            whole_of(&self.row(row)[column..][..COLUMNS], scale)
        } else {
            _mm256_setzero_si256()
        }
    }
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AVX2 and FMA, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx2,fma")]
pub(in super::super) unsafe fn attend(
    qkv: &[f32],
    part: Part<'_>,
    out: SharedSlice<'_, f32>,
    scratch: &mut Scratch,
) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights, whole: Some(queries) } = text else {
        unreachable!("there is room for whole queries where they are multiplied")
    };
    for which in 0..3 {
        Rows::of(qkv, part, which).fetch_next();
    }
    let blocks = tokens.div_ceil(BLOCK);
    let packed_len = blocks * heads.width / BLOCK * STEP;
    let (keys, values) = (&mut keys[..packed_len], &mut values[..packed_len]);
    let key_scale = pack_keys(Rows::of(qkv, part, 1), keys);
    let value_scale = pack_values(Rows::of(qkv, part, 2), values);
    let shared =
        Shared { queries: Rows::of(qkv, part, 0), query_max: query_max(heads.width), heads, keys, key_scale };
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let weighed = shared.weigh(sight, query, rows, Written { queries, scores, weights });
        let factors = weighed.map(|sum| value_scale / sum);
        let seen = sight.blocks();
        for (step, values) in values.chunks_exact(blocks * STEP).enumerate() {
            let weights = Lines { values: weights, stride: WEIGHTS_STRIDE, rows };
            add_up(weights, &values[seen.start * STEP..seen.end * STEP], sums);
            for (row, (sums, factor)) in sums.chunks_exact(BLOCK).zip(&factors).take(rows).enumerate() {
                let at = (start + query + row) * heads.hidden() + columns[0] + step * BLOCK;
                // SAFETY: these columns of these rows are of this part.
                let out = unsafe { out.part(at..at + BLOCK) };
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor);
            }
        }
    }
}

/// For every 32 keys and 32 columns two tiles of (16 pairs of columns, 16 keys); what a whole number stands for. Places without
/// a key are not always written: their scores do not count.
#[target_feature(enable = "avx2")]
fn pack_keys(keys: Rows<'_>, packed: &mut [u16]) -> f32 {
    let scale = keys.scale(query_max(keys.width));
    for first in (0..keys.count).step_by(LANES) {
        let block = &mut packed[first / BLOCK * (keys.width / BLOCK) * STEP..];
        for column in (0..keys.width).step_by(COLUMNS) {
            let mut rows = [_mm256_setzero_ps(); LANES];
            for (key, row) in rows.iter_mut().enumerate() {
                *row = _mm256_castsi256_ps(keys.whole(first + key, column, scale));
            }
            let line = column / BLOCK * STEP + first % BLOCK / 16 * TILE + column % BLOCK / 2 * BLOCK;
            for (place, pairs) in transposed(rows).into_iter().enumerate() {
                store(&mut block[line + place * BLOCK + first % 16 * 2..], _mm256_castps_si256(pairs));
            }
        }
    }
    scale.scale
}

/// For every 32 columns and 32 keys two tiles of (16 pairs of keys, 16 columns); what a whole number stands for. Places without
/// a key are not always written: they meet weights that are zero.
#[target_feature(enable = "avx2")]
fn pack_values(values: Rows<'_>, packed: &mut [u16]) -> f32 {
    let scale = values.scale(VALUE_MAX as f32);
    let blocks = values.count.div_ceil(BLOCK);
    for key in (0..values.count).step_by(2) {
        for column in (0..values.width).step_by(COLUMNS) {
            let (one, other) = (values.whole(key, column, scale), values.whole(key + 1, column, scale));
            let (low, high) = (_mm256_unpacklo_epi16(one, other), _mm256_unpackhi_epi16(one, other));
            let tile = (column / BLOCK * blocks + key / BLOCK) * STEP + column % BLOCK / 16 * TILE;
            let line = &mut packed[tile + key % BLOCK / 2 * BLOCK..][..BLOCK];
            store(line, _mm256_permute2x128_si256::<0x20>(low, high));
            store(&mut line[COLUMNS..], _mm256_permute2x128_si256::<0x31>(low, high));
        }
    }
    scale.scale
}

/// Pairs in a register.
const LANES: usize = 8;

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u16], numbers: __m256i) {
    let to = &mut to[..2 * LANES];
    // SAFETY: the slice has room for 32 bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), numbers) }
}

/// The weights of some queries times the values of the keys they see, into `sums` `(rows, 32)`.
#[inline]
#[target_feature(enable = "avx2")]
fn add_up(weights: Lines<'_>, values: &[u16], sums: &mut [f32]) {
    let (sums, more) = sums.split_at_mut(ROWS * BLOCK);
    for (index, values) in values.chunks(STRETCH).enumerate() {
        let lines = &weights.values[index * (STRETCH / STEP) * WEIGHTS_STRIDE * BLOCK..];
        let weights = Lines { values: lines, ..weights };
        if index == 0 {
            multiply(weights, values, End::Floats, (sums, BLOCK));
        } else {
            multiply(weights, values, End::Floats, (more, BLOCK));
            sums.iter_mut().zip(&*more).for_each(|(sum, more)| *sum += more);
        }
    }
}

/// What the groups of queries of one text and head share.
#[derive(Debug, Clone, Copy)]
struct Shared<'a> {
    queries: Rows<'a>,
    heads: Heads<'a>,
    /// The largest size of a query.
    query_max: f32,
    keys: &'a [u16],
    key_scale: f32,
}

impl Shared<'_> {
    /// Writes the weights of up to [`ROWS`] queries and gives the sum of those of each.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn weigh(&self, sight: Sight<'_>, query: usize, rows: usize, written: Written<'_>) -> [f32; ROWS] {
        let Written { queries, scores, weights } = written;
        let seen = sight.blocks();
        let (stride, steps) = (seen.len() * BLOCK, self.heads.width / BLOCK);
        let scales = self.quantise_queries(query, rows, queries).map(|scale| scale * self.key_scale);
        let left = Lines { values: queries, stride: ROWS, rows };
        for (index, block) in seen.enumerate() {
            let keys = &self.keys[block * steps * STEP..][..steps * STEP];
            multiply(left, keys, End::Floats, (&mut scores[index * BLOCK..], stride));
        }
        let mut sums = [0.0; ROWS];
        for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
            let scale = self.limit(sight, row, scales[row], scores);
            let to = (&mut weights[row * BLOCK..], WEIGHTS_STRIDE * BLOCK);
            sums[row] = weigh(scores, sight.keys(), scale, to);
        }
        sums
    }

    /// Does to scores what heads do to them, and says what they are to be multiplied by, `scale` being what one stands for.
    #[inline]
    fn limit(&self, sight: Sight<'_>, row: usize, scale: f32, scores: &mut [f32]) -> f32 {
        if self.heads.bias.is_none() && self.heads.window.is_none() {
            return scale * self.heads.scale();
        }
        scores.iter_mut().for_each(|score| *score *= scale);
        sight.limit(row, &mut scores[..sight.keys()]);
        self.heads.scale()
    }

    /// Writes queries as whole numbers, [`ROWS`] lines for each step of columns, and says what one of each stands for.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn quantise_queries(&self, query: usize, rows: usize, to: &mut [u16]) -> [f32; ROWS] {
        let mut scales = [0.0; ROWS];
        for (row, row_scale) in scales.iter_mut().take(rows).enumerate() {
            let scale = Rows { values: self.queries.row(query + row), count: 1, ..self.queries }
                .scale(self.query_max);
            for column in (0..self.heads.width).step_by(COLUMNS) {
                let at = (column / BLOCK * ROWS + row) * BLOCK + column % BLOCK;
                store(&mut to[at..], self.queries.whole(query + row, column, scale));
            }
            *row_scale = scale.scale;
        }
        scales
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activations;
    use crate::attention::{RelativeBias, attention};
    use crate::testing;
    use crate::tier::Tier;

    const HEADS: usize = 2;
    const WIDTH: usize = 64;

    fn attended(tier: Tier, values: &[f32], lengths: &[usize], heads: Heads<'_>) -> Vec<f32> {
        let tokens: usize = lengths.iter().sum();
        let mut qkv = Activations::new(tier, tokens, 3 * HEADS * WIDTH);
        qkv.fill(values, 3 * HEADS * WIDTH);
        let mut out = Activations::new(tier, tokens, HEADS * WIDTH);
        attention(&qkv, lengths, heads, &mut out, &mut Scratch::new(tier, tokens, WIDTH));
        out.to_rows()
    }

    #[test]
    fn whole_numbers_give_what_floats_give() {
        let tiers = testing::tiers("whole_numbers_give_what_floats_give");
        let of = |name| tiers.iter().copied().find(|tier| tier.name() == name);
        let (Some(whole), Some(floats)) = (of("avx2-int16"), of("avx2")) else { return };
        let slope = |head: usize, distance: isize| (head as f32 - distance as f32) / 64.0;
        let bias = RelativeBias::new(HEADS, 700, 0.125, slope);
        let plain = Heads::new(HEADS, WIDTH);
        let lengths = [1, 12, 17, 31, 32, 33, 95, 128, 257, 700];
        let numbers = 0..lengths.iter().sum::<usize>() * 3 * HEADS * WIDTH;
        let values: Vec<f32> =
            numbers.map(|number| ((number * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0).collect();
        for heads in [plain, Heads { window: Some(8), ..plain }, Heads { bias: Some(&bias), ..plain }] {
            let whole = attended(whole, &values, &lengths, heads);
            let floats = attended(floats, &values, &lengths, heads);
            for (index, (whole, floats)) in whole.iter().zip(&floats).enumerate() {
                // Values are at most 2: half a step of theirs is a thousandth, and weights add less.
                assert!((whole - floats).abs() <= 2.0 / 1024.0, "{index}: {whole}, {floats}");
            }
        }
    }

    #[test]
    fn sums_of_the_largest_values_do_not_run_over() {
        let sum = i64::from(KEYS_TOGETHER) * i64::from(VALUE_MAX) * i64::from(WEIGHT_MAX);
        assert!(sum <= i64::from(i32::MAX), "{sum}");
    }
}

//! Attention from bf16 to bf16 in whole numbers of sixteen bits, in 512-bit registers.
//!
//! ```text
//!  keys, and values, of a text and head ─▶ int16, one scale ─┐
//!  12 queries ─▶ int16, one scale ─▶ scores, exact ─▶ f32 ─▶ weights, 0 ..= 8192 ─▶ sums of 256 keys, exact ─▶ f32
//! ```
//! For CPUs that multiply pairs of whole numbers faster than those of bf16, or have no instruction for these. Twelve bits or more of queries and keys, and ten of
//! values, are as fine as the eight of bf16 for all that is within a few powers of two of the largest.

pub(super) mod avx2;

use std::arch::x86_64::*;

use super::bf16::divide;
use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::softmax::whole::{self as softmax, Scores, WEIGHT_MAX, Weights};
use super::{Lines, LinesMut, Part};
use crate::activations::BLOCK;
use crate::convert::avx512::Plain;
use crate::linear::ROWS;
use crate::linear::bf16::{self, multiply_whole};
use crate::packed::TILE;
use crate::quantise::avx512::{larger_bf16, load_bf16, scale_of_bf16, whole_bf16};
use crate::scratch::{Scratch, Text};

/// Numbers of 32 inputs of 32 outputs, two tiles.
const STEP: usize = 2 * TILE;

/// Lines of the weights of 32 keys: one for each query that is computed at once, and some to spare.
const WEIGHTS_STRIDE: usize = BLOCK / 2;

/// Keys whose products are added up in whole numbers.
const KEYS_TOGETHER: u16 = 256;
/// Steps of these.
const STEPS_TOGETHER: usize = KEYS_TOGETHER as usize / BLOCK;

/// The largest size of a value: sums of that many keys do not run over.
const VALUE_MAX: i32 = i32::MAX / WEIGHT_MAX / KEYS_TOGETHER as i32;

/// The largest size of a query and a key of `width` columns: scores do not run over.
fn query_max(width: usize) -> f32 {
    (i32::MAX.unsigned_abs() as usize / width).isqrt() as f32
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AVX-512 and VNNI, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vnni")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights, whole: Some(queries) } = text else {
        unreachable!("there is room for whole queries where they are multiplied")
    };
    let (blocks, steps) = (tokens.div_ceil(BLOCK), heads.width / BLOCK);
    let (keys, values) = (&mut keys[..blocks * steps * STEP], &mut values[..blocks * steps * STEP]);
    // Packing leaves a tile without a key as it is, and what was there must not decide over the scale.
    keys[(blocks - 1) * steps * STEP..].fill(0);
    pack_keys(qkv, part, keys);
    pack_values(qkv, part, values);
    let key_scale = quantise(keys, query_max(heads.width));
    let value_scale = quantise(values, VALUE_MAX as f32);
    let shared = Shared { qkv, part, steps, keys, key_scale };
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let factors = shared.weigh(sight, query, rows, Written { queries, scores, weights });
        let factors = factors.map(|sum| value_scale / sum);
        let seen = sight.blocks();
        for (step, values) in values.chunks_exact(blocks * STEP).enumerate() {
            let weights = bf16::Lines {
                values: weights,
                stride: WEIGHTS_STRIDE,
                rows: rows.next_multiple_of(softmax::ROWS),
            };
            add_up(weights, &values[seen.start * STEP..seen.end * STEP], sums);
            // SAFETY: these lines are of this part.
            unsafe {
                let lines = out.lines(columns[0] + step * BLOCK, start + query, rows);
                divide::<Plain>(sums, &factors, lines);
            }
        }
    }
}

/// Makes whole numbers of bf16 where they are, and says what one stands for.
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise(numbers: &mut [u16], whole_max: f32) -> f32 {
    let sizes = numbers
        .chunks_exact(BLOCK)
        .fold(_mm512_setzero_si512(), |sizes, line| larger_bf16(sizes, load_bf16(line)));
    let scale = scale_of_bf16(whole_max, sizes);
    for line in numbers.chunks_exact_mut(BLOCK) {
        store(line, whole_bf16(load_bf16(line), scale));
    }
    scale.scale
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut [u16], numbers: __m512i) {
    let line = &mut line[..BLOCK];
    // SAFETY: the slice has room for 64 bytes.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), numbers) }
}

/// The weights of up to [`ROWS`] queries times the values of the keys they see, into `sums` `(rows, 32)`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_up(weights: bf16::Lines<'_>, values: &[u16], sums: &mut [f32]) {
    let (sums, more) = sums.split_at_mut(ROWS * BLOCK);
    for (index, values) in values.chunks(STEPS_TOGETHER * STEP).enumerate() {
        let lines = &weights.values[index * STEPS_TOGETHER * WEIGHTS_STRIDE * BLOCK..];
        let weights = bf16::Lines { values: lines, ..weights };
        if index == 0 {
            multiply_whole(weights, values, sums, BLOCK);
        } else {
            multiply_whole(weights, values, more, BLOCK);
            sums.iter_mut().zip(&*more).for_each(|(sum, more)| *sum += more);
        }
    }
}

/// What the groups of queries of one text and head share.
#[derive(Debug, Clone, Copy)]
struct Shared<'a> {
    qkv: Lines<'a>,
    part: Part<'a>,
    /// Steps of 32 columns.
    steps: usize,
    keys: &'a [u16],
    key_scale: f32,
}

/// What a group of queries writes to.
#[derive(Debug)]
struct Written<'a> {
    queries: &'a mut [u16],
    scores: &'a mut [f32],
    weights: &'a mut [u16],
}

impl Shared<'_> {
    /// Writes the weights of up to [`ROWS`] queries and gives the sum of those of each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vnni")]
    fn weigh(&self, sight: Sight<'_>, query: usize, rows: usize, written: Written<'_>) -> [f32; ROWS] {
        let Written { queries, scores, weights } = written;
        let (keys, seen) = (sight.keys(), sight.blocks());
        let stride = seen.len() * BLOCK;
        let scale = self.quantise_queries(query, rows, queries) * self.key_scale;
        let lines = bf16::Lines { values: queries, stride: ROWS, rows: rows.next_multiple_of(softmax::ROWS) };
        for (index, block) in seen.enumerate() {
            let keys = &self.keys[block * self.steps * STEP..][..self.steps * STEP];
            multiply_whole(lines, keys, &mut scores[index * BLOCK..], stride);
        }
        let scale = self.limit(sight, rows, scale, (scores, stride));
        let mut sums = [0.0; ROWS];
        for (group, sums) in sums.chunks_exact_mut(softmax::ROWS).enumerate().take(lines.rows / softmax::ROWS)
        {
            let first = group * softmax::ROWS;
            let mut scores = Scores { values: &mut scores[first * stride..], stride, blocks: stride / BLOCK };
            scores.end_at(keys);
            let mut weights =
                Weights { values: &mut weights[first * BLOCK..], stride: WEIGHTS_STRIDE * BLOCK };
            sums.copy_from_slice(&scores.weigh(scale, &mut weights));
        }
        sums
    }

    /// Does to scores what heads do to them, and says what they are to be multiplied by, `scale` being what one stands for.
    #[inline]
    fn limit(&self, sight: Sight<'_>, rows: usize, scale: f32, (scores, stride): (&mut [f32], usize)) -> f32 {
        let heads = self.part.heads;
        if heads.bias.is_none() && heads.window.is_none() {
            return scale * heads.scale();
        }
        for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
            scores.iter_mut().for_each(|score| *score *= scale);
            sight.limit(row, &mut scores[..sight.keys()]);
        }
        heads.scale()
    }

    /// Writes queries as whole numbers, [`ROWS`] lines for each step of columns, and says what one stands for.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn quantise_queries(&self, query: usize, rows: usize, to: &mut [u16]) -> f32 {
        let Part { start, columns, heads, .. } = self.part;
        let lines = |step: usize| &self.qkv.from(columns[0] + step * BLOCK, start + query)[..rows * BLOCK];
        let mut sizes = _mm512_setzero_si512();
        for line in (0..self.steps).flat_map(|step| lines(step).chunks_exact(BLOCK)) {
            sizes = larger_bf16(sizes, load_bf16(line));
        }
        let scale = scale_of_bf16(query_max(heads.width), sizes);
        for (step, to) in to.chunks_exact_mut(ROWS * BLOCK).take(self.steps).enumerate() {
            for (to, line) in to.chunks_exact_mut(BLOCK).zip(lines(step).chunks_exact(BLOCK)) {
                store(to, whole_bf16(load_bf16(line), scale));
            }
        }
        scale.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activations;
    use crate::attention::{Heads, RelativeBias, attention};
    use crate::testing;
    use crate::tier::Tier;

    const HEADS: usize = 2;
    const WIDTH: usize = 64;

    /// The attention of texts with numbers without a pattern.
    fn attended(tier: Tier, lengths: &[usize], heads: Heads<'_>) -> Vec<f32> {
        let tokens: usize = lengths.iter().sum();
        let numbers = 0..tokens * 3 * HEADS * WIDTH;
        let values: Vec<f32> =
            numbers.map(|number| ((number * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0).collect();
        let mut qkv = Activations::new(tier, tokens, 3 * HEADS * WIDTH);
        qkv.fill(&values, 3 * HEADS * WIDTH);
        let mut out = Activations::new(tier, tokens, HEADS * WIDTH);
        attention(&qkv, lengths, heads, &mut out, &mut Scratch::new(tier, tokens, WIDTH));
        out.to_rows()
    }

    #[test]
    fn whole_numbers_give_what_bf16_gives() {
        let test = "whole_numbers_give_what_bf16_gives";
        let tiers = testing::tiers(test);
        let tier = |name: &str| tiers.iter().copied().find(|tier| tier.name() == name);
        let (Some(bf16), Some(int16)) = (tier("avx512-bf16"), tier("avx512-int16")) else { return };
        let slope = |head: usize, distance: isize| (head as f32 - distance as f32) / 64.0;
        let bias = RelativeBias::new(HEADS, 700, 0.125, slope);
        let plain = Heads::new(HEADS, WIDTH);
        for heads in [plain, Heads { window: Some(8), ..plain }, Heads { bias: Some(&bias), ..plain }] {
            let lengths = [1, 12, 17, 31, 32, 33, 95, 128, 257, 700];
            let pairs = attended(bf16, &lengths, heads);
            let whole = attended(int16, &lengths, heads);
            for (index, (pairs, whole)) in pairs.iter().zip(&whole).enumerate() {
                // Values are at most 2, and each way rounds weights and results once.
                assert!((pairs - whole).abs() <= 2.0 * 2.0 / 256.0, "{index}: {pairs}, {whole}");
            }
        }
    }

    #[test]
    fn sums_of_the_largest_numbers_do_not_run_over() {
        let keys = u64::from(KEYS_TOGETHER);
        assert!(
            keys * u64::from(VALUE_MAX.unsigned_abs()) * u64::from(WEIGHT_MAX.unsigned_abs())
                <= i32::MAX as u64
        );
        for width in [32, 64, 96, 128, 256] {
            let max = f64::from(query_max(width));
            assert!(max * max * width as f64 <= f64::from(i32::MAX), "{width}");
        }
    }
}

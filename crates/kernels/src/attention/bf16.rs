//! Attention in bf16 by 512-bit registers: keys and values become panels of bf16, and the products are those of a linear
//! layer.
//!
//! Where a CPU multiplies floats faster than bf16, all of it becomes floats before it is multiplied, which changes no number.

use std::arch::x86_64::*;
use std::ops::Range;

use super::pack::{pack_keys, pack_values};
use super::sight::Sight;
use super::softmax::avx512::{add_up, to_bf16};
use super::softmax::powers::{self, Powers};
use super::{Lines, LinesMut, Part};
use crate::activations::BLOCK;
use crate::convert::avx512::{floats_of_line, floats_of_pairs, store_bf16};
use crate::linear::{self, Left, ROWS, bf16};
use crate::output::avx512::Masks;
use crate::packed::TILE;
use crate::scratch::{Floats, Scratch, Text};
use crate::tier::PanelKind;

/// Lines of the weights of 32 keys: one for each query that is computed at once, and some to spare.
const WEIGHTS_STRIDE: usize = BLOCK / 2;

/// What the groups of queries of one text and head share.
#[derive(Debug, Clone, Copy)]
struct Shared<'a> {
    qkv: Lines<'a>,
    part: Part<'a>,
    /// Steps of 32 columns.
    steps: usize,
    keys: Panels<'a>,
}

/// Keys or values in steps of 32 inputs of 32 outputs.
#[derive(Debug, Clone, Copy)]
enum Panels<'a> {
    /// Pairs of bf16 in two tiles.
    Pairs(&'a [u16]),
    /// The inputs of these pairs one after another, as floats.
    Floats(&'a [f32]),
}

/// Numbers of a step in either form.
const STEP: usize = BLOCK * BLOCK;

impl<'a> Panels<'a> {
    /// As floats if there is room for some.
    #[target_feature(enable = "avx512f")]
    fn new(packed: &'a [u16], room: Option<&'a mut [f32]>) -> Self {
        let Some(room) = room else { return Self::Pairs(packed) };
        let floats = &mut room[..packed.len()];
        for (tiles, lines) in packed.chunks_exact(STEP).zip(floats.chunks_exact_mut(STEP)) {
            for (pair, lines) in lines.chunks_exact_mut(2 * BLOCK).enumerate() {
                let (first, second) = lines.split_at_mut(BLOCK);
                for half in 0..2 {
                    let pairs = &tiles[half * TILE + pair * BLOCK..][..BLOCK];
                    floats_of_pairs(pairs, [&mut first[half * 16..], &mut second[half * 16..]]);
                }
            }
        }
        Self::Floats(floats)
    }

    fn steps(self, range: Range<usize>) -> Self {
        let numbers = range.start * STEP..range.end * STEP;
        match self {
            Self::Pairs(pairs) => Self::Pairs(&pairs[numbers]),
            Self::Floats(floats) => Self::Floats(&floats[numbers]),
        }
    }

    /// Into `sums`, whose rows are `stride` apart. Rows become floats in `room` if these have.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn multiply(self, left: bf16::Lines<'_>, room: &mut [f32], (sums, stride): (&mut [f32], usize)) {
        match self {
            Self::Pairs(pairs) => bf16::multiply(left, pairs, sums, stride),
            Self::Floats(floats) => {
                let depth = floats.len() / BLOCK;
                for (row, room) in room.chunks_exact_mut(depth).take(left.rows).enumerate() {
                    for (step, to) in room.chunks_exact_mut(BLOCK).enumerate() {
                        floats_of_line(&left.values[(step * left.stride + row) * BLOCK..], to);
                    }
                }
                let left = Left { values: room, stride: depth, rows: left.rows };
                linear::multiply(PanelKind::Avx512, left, floats, (sums, stride));
            }
        }
    }
}

/// Computes one text and head of `qkv` `(tokens, 3 · hidden)` into `out` `(tokens, hidden)`.
///
/// # Safety
/// The CPU has AVX-512 and bf16, and nobody else writes to this part of `out`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn attend(qkv: Lines<'_>, part: Part<'_>, out: LinesMut<'_>, scratch: &mut Scratch) {
    let Part { start, tokens, columns, heads, .. } = part;
    let Scratch { sums, scores, text, .. } = scratch;
    let Text::Tiles { keys, values, weights, floats } = text else {
        unreachable!("tiles are the layout of this tier")
    };
    let (blocks, steps) = (tokens.div_ceil(BLOCK), heads.width / BLOCK);
    let (keys, values) = (&mut keys[..blocks * steps * STEP], &mut values[..blocks * steps * STEP]);
    pack_keys(qkv, part, keys);
    pack_values(qkv, part, values);
    let (mut key_floats, mut value_floats, mut room) = (None, None, &mut [][..]);
    if let Some(Floats { keys, values, rows }) = floats {
        (key_floats, value_floats, room) = (Some(&mut keys[..]), Some(&mut values[..]), rows);
    }
    let (keys, values) = (Panels::new(keys, key_floats), Panels::new(values, value_floats));
    let shared = Shared { qkv, part, steps, keys };
    for query in (0..tokens).step_by(ROWS) {
        let rows = ROWS.min(tokens - query);
        let sight = Sight::new(part, query, rows);
        let written = Written { scores, weights, room };
        let factors = match shared.weigh(query, rows, written) {
            Some(factors) => factors,
            None => shared.weigh_carefully(query, rows, Written { scores, weights, room }),
        };
        let seen = sight.blocks();
        for step in 0..steps {
            let values = values.steps(step * blocks + seen.start..step * blocks + seen.end);
            let weights = bf16::Lines { values: weights, stride: WEIGHTS_STRIDE, rows };
            values.multiply(weights, room, (sums, BLOCK));
            // SAFETY: these lines are of this part.
            let lines = unsafe { out.lines(columns[0] + step * BLOCK, start + query, rows) };
            divide(sums, &factors, lines);
        }
    }
}

/// What a group of queries writes to.
#[derive(Debug)]
struct Written<'a> {
    scores: &'a mut [f32],
    weights: &'a mut [u16],
    /// For rows as floats.
    room: &'a mut [f32],
}

impl Shared<'_> {
    fn queries(&self, query: usize, rows: usize) -> bf16::Lines<'_> {
        let Lines(_, stride) = self.qkv;
        bf16::Lines { values: self.qkv.from(self.part.columns[0], self.part.start + query), stride, rows }
    }

    /// 32 keys.
    fn keys(&self, block: usize) -> Panels<'_> {
        self.keys.steps(block * self.steps..(block + 1) * self.steps)
    }

    /// Makes weights of the scores of one block of keys after the other, while they are in the L1 cache, and without a look
    /// at the largest first. Gives one over the sum of each row's weights; nothing where a score is too large for that, or
    /// heads do something to scores.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn weigh(&self, query: usize, rows: usize, written: Written<'_>) -> Option<[f32; ROWS]> {
        let Written { scores, weights, room } = written;
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
        for block in 0..tokens.div_ceil(BLOCK) {
            self.keys(block).multiply(queries, room, (scores, BLOCK));
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
    fn weigh_carefully(&self, query: usize, rows: usize, written: Written<'_>) -> [f32; ROWS] {
        let Written { scores, weights, room } = written;
        let sight = Sight::new(self.part, query, rows);
        let stride = sight.blocks().len() * BLOCK;
        for (index, block) in sight.blocks().enumerate() {
            let to = &mut scores[index * BLOCK..];
            self.keys(block).multiply(self.queries(query, rows), room, (to, stride));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activations;
    use crate::attention::{Heads, RelativeBias, attention};
    use crate::testing;
    use crate::tier::Tier;

    const HEADS: usize = 2;
    const WIDTH: usize = 64;

    /// The attention of texts with numbers without a pattern, and with or without floats on the way.
    fn attended(tier: Tier, lengths: &[usize], heads: Heads<'_>, room: Option<Floats>) -> Vec<f32> {
        let tokens: usize = lengths.iter().sum();
        let numbers = 0..tokens * 3 * HEADS * WIDTH;
        let values: Vec<f32> =
            numbers.map(|number| ((number * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0).collect();
        let mut qkv = Activations::new(tier, tokens, 3 * HEADS * WIDTH);
        qkv.fill(&values, 3 * HEADS * WIDTH);
        let mut out = Activations::new(tier, tokens, HEADS * WIDTH);
        let mut scratch = Scratch::new(tier, 128, WIDTH);
        let Text::Tiles { floats, .. } = &mut scratch.text else {
            panic!("tiles are the layout of this tier")
        };
        *floats = room;
        attention(&qkv, lengths, heads, &mut out, &mut scratch);
        out.to_rows()
    }

    #[test]
    fn floats_on_the_way_change_no_more_than_the_order_of_sums() {
        let tiers = testing::tiers("floats_on_the_way_change_no_more_than_the_order_of_sums");
        let Some(&tier) = tiers.iter().find(|tier| tier.name() == "avx512-bf16") else { return };
        let slope = |head: usize, distance: isize| (head as f32 - distance as f32) / 64.0;
        let bias = RelativeBias::new(HEADS, 128, 0.125, slope);
        let plain = Heads::new(HEADS, WIDTH);
        for heads in [plain, Heads { window: Some(8), ..plain }, Heads { bias: Some(&bias), ..plain }] {
            let lengths = [1, 12, 17, 31, 32, 33, 95, 128];
            let pairs = attended(tier, &lengths, heads, None);
            let floats = attended(tier, &lengths, heads, Some(Floats::new(128, WIDTH)));
            for (index, (pairs, floats)) in pairs.iter().zip(&floats).enumerate() {
                assert!((pairs - floats).abs() <= 0.01 * pairs.abs().max(0.1), "{index}: {pairs}, {floats}");
            }
        }
    }
}

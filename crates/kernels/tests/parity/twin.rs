//! Plain loops that say what a kernel means.

use kernels::{Heads, Tier};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

unsafe extern "C" {
    /// The C library's.
    safe fn erf(value: f64) -> f64;
}

/// `count` values in [-1, 1), the same for a seed.
pub(crate) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// What a tier makes of inputs and weights before it multiplies them: some round them to bf16.
pub(crate) fn rounded(tier: Tier, values: &[f32]) -> Vec<f32> {
    if tier.rounds_to_bfloat16() { rounded_to_bf16(values) } else { values.to_vec() }
}

/// To the nearest bf16, ties to even.
pub(crate) fn rounded_to_bf16(values: &[f32]) -> Vec<f32> {
    let round = |value: &f32| {
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    };
    values.iter().map(round).collect()
}

/// Half a step of the type in which a tier hands values from kernel to kernel, relative.
pub(crate) fn half_step(tier: Tier) -> f64 {
    if tier.rounds_to_bfloat16() { 1.0 / 256.0 } else { 1e-7 }
}

/// What an element's product may be off by in a score of queries and keys of up to 2, beyond the rounding of both to bf16: six
/// deviations of all roundings, over the root of the width. Floats are rounded after each addition, to a partial sum that has
/// grown as the root of how many there are; some tiers make whole numbers of both sides, of which as many squares as columns do
/// not run over 31 bits, and add them up exactly.
pub(crate) fn half_step_of_score(tier: Tier, width: usize) -> f64 {
    /// Of numbers that are drawn from -2 to 2.
    const PRODUCT_DEVIATION: f64 = 4.0 / 3.0;
    let width = width as f64;
    if !tier.multiplies_whole_numbers() {
        let half_step = f64::from(f32::EPSILON) / 2.0;
        return 6.0 * PRODUCT_DEVIATION * half_step * (width / 6.0).sqrt();
    }
    let step = 2.0 / (f64::from(i32::MAX) / width).sqrt();
    6.0 * 2_f64.sqrt() * 1.15 * step / 12_f64.sqrt()
}

/// `x · Wᵀ + b`, and the sum of the sizes of what was added, on which the rounding of f32 depends.
pub(crate) fn linear(input: &[f32], weights: &[f32], inputs: usize, bias: &[f32]) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    for row in input.chunks_exact(inputs) {
        for (output, weights) in weights.chunks_exact(inputs).enumerate() {
            let bias = f64::from(bias.get(output).copied().unwrap_or(0.0));
            let products = row.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
            found.push(products.fold((bias, bias.abs()), |(sum, size), p| (sum + p, size + p.abs())));
        }
    }
    found
}

pub(crate) fn silu(value: f64) -> f64 {
    value / (1.0 + (-value).exp())
}

pub(crate) fn gelu(value: f64) -> f64 {
    0.5 * value * (1.0 + erf(value / std::f64::consts::SQRT_2))
}

/// Attention of one text: `(tokens, 3 · heads · width)` to `(tokens, heads · width)`. `bias(head, query, key)` is added
/// to a scaled score.
pub(crate) fn attention(
    qkv: &[f32],
    heads: &Heads<'_>,
    bias: impl Fn(usize, usize, usize) -> f64,
) -> Vec<f64> {
    let (count, width) = (heads.count, heads.width);
    let hidden = count * width;
    let tokens = qkv.len() / (3 * hidden);
    let at = |token: usize, part: usize, head: usize, column: usize| {
        f64::from(qkv[token * 3 * hidden + part * hidden + head * width + column])
    };
    let mut out = vec![0.0; tokens * hidden];
    for head in 0..count {
        for query in 0..tokens {
            let seen = |key: usize| heads.window.is_none_or(|window| key.abs_diff(query) <= window);
            let score = |key: usize| -> f64 {
                let product = (0..width).map(|c| at(query, 0, head, c) * at(key, 1, head, c)).sum::<f64>();
                product * f64::from(heads.scale) + bias(head, query, key)
            };
            let keys: Vec<usize> = (0..tokens).filter(|key| seen(*key)).collect();
            let scores: Vec<f64> = keys.iter().map(|key| score(*key)).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for column in 0..width {
                let values =
                    keys.iter().zip(&weights).map(|(key, weight)| weight * at(*key, 2, head, column));
                out[query * hidden + head * width + column] = values.sum::<f64>() / sum;
            }
        }
    }
    out
}

/// The same of what a tier makes of inputs and weights.
pub(crate) fn product(
    tier: Tier,
    input: &[f32],
    weights: &[f32],
    inputs: usize,
    bias: &[f32],
) -> Vec<(f64, f64)> {
    let (input, rounded) = (rounded(tier, input), rounded(tier, weights));
    let products = linear(&input, &rounded, inputs, bias);
    if !tier.multiplies_whole_numbers() {
        return products;
    }
    let sums = whole_linear(&input, weights, inputs, bias);
    sums.into_iter().zip(products).map(|(sum, (_, size))| (sum, size)).collect()
}

/// `x · Wᵀ + b` of whole numbers of sixteen bits: each row of inputs scaled by its largest value, the weights of each output so
/// that no sum runs over 31 bits.
fn whole_linear(input: &[f32], weights: &[f32], inputs: usize, bias: &[f32]) -> Vec<f64> {
    const ROW_MAX: f32 = 4095.0;
    let weights: Vec<_> = weights.chunks_exact(inputs).map(|row| whole_weights(row, ROW_MAX)).collect();
    let mut found = Vec::new();
    for (row, row_scale) in input.chunks_exact(inputs).map(|row| whole_row(row, ROW_MAX)) {
        for (output, (weights, scale)) in weights.iter().enumerate() {
            let sum: i64 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
            let bias = bias.get(output).copied().unwrap_or(0.0);
            found.push(sum as f64 * row_scale * scale + f64::from(bias));
        }
    }
    found
}

/// The weights of an output as whole numbers, and what one of them stands for.
#[expect(clippy::cast_possible_truncation, reason = "a whole number of sixteen bits, and a scale in f32")]
fn whole_weights(row: &[f32], row_max: f32) -> (Vec<i64>, f64) {
    let sizes: f64 = row.iter().map(|weight| f64::from(weight.abs())).sum();
    let room = (f64::from(i32::MAX) / f64::from(row_max)).floor() * 0.999_99 - row.len() as f64 / 2.0;
    let max = row.iter().fold(0.0_f32, |max, weight| max.max(weight.abs()));
    let scale = ((sizes / room) as f32).max(max / 32767.0);
    let whole = |weight: &f32| (weight / scale).round_ties_even();
    let whole = row.iter().map(|weight| if scale > 0.0 { whole(weight) as i64 } else { 0 }).collect();
    (whole, f64::from(scale))
}

/// `x · Wᵀ + b` of whole numbers: each row of both sides scaled by its largest value, sums exact.
pub(crate) fn int8_linear(input: &[f32], weights: &[f32], inputs: usize, bias: &[f32]) -> Vec<f64> {
    let weights: Vec<_> = weights.chunks_exact(inputs).map(int8_row).collect();
    let mut found = Vec::new();
    for (row, row_scale) in input.chunks_exact(inputs).map(int8_row) {
        for ((weights, scale), bias) in weights.iter().zip(bias) {
            let sum: i64 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
            found.push(sum as f64 * row_scale * scale + f64::from(*bias));
        }
    }
    found
}

/// Whole numbers in -127 ..= 127, and what one of them stands for.
fn int8_row(row: &[f32]) -> (Vec<i64>, f64) {
    whole_row(row, 127.0)
}

/// The same up to `whole_max`.
#[expect(clippy::cast_possible_truncation, reason = "a whole number of at most sixteen bits")]
fn whole_row(row: &[f32], whole_max: f32) -> (Vec<i64>, f64) {
    let max = row.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    // What is smaller counts as zero.
    let inverse = if max >= 1e-30 { whole_max / max } else { 0.0 };
    let whole = row.iter().map(|value| (value * inverse).round_ties_even() as i64).collect();
    (whole, f64::from(max) / f64::from(whole_max))
}

pub(crate) fn cosine(left: &[f32], right: &[f64]) -> f64 {
    let dot: f64 = left.iter().zip(right).map(|(l, r)| f64::from(*l) * r).sum();
    let left_size: f64 = left.iter().map(|l| f64::from(*l).powi(2)).sum();
    let right_size: f64 = right.iter().map(|r| r * r).sum();
    dot / (left_size * right_size).sqrt()
}

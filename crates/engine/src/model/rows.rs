//! Fused passes over rows of f32, written so that the compiler turns them into vector instructions: fixed groups of
//! lanes, no calls, no early exit. NaN goes in and NaN comes out, so that a broken text is seen at the end.

use crate::config::Shape;
use crate::error::LoadError;
use crate::weights::Weights;

/// Partial sums kept side by side. The order of additions is the same whatever instructions the machine has.
const LANES: usize = 16;

/// A layer norm over the last dimension.
pub(super) struct Norm {
    /// `(width)`
    scale: Vec<f32>,
    /// `(width)`
    shift: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    pub(super) fn load(config: &Shape, weights: &Weights, name: &str) -> Result<Self, LoadError> {
        let row = |newer: &str, older: &str| {
            weights.row_of_either(&format!("{name}.{newer}"), &format!("{name}.{older}"), config.hidden)
        };
        Ok(Self { scale: row("weight", "gamma")?, shift: row("bias", "beta")?, epsilon: config.norm_epsilon })
    }

    /// Normalises rows `(rows, width)`.
    pub(super) fn apply(&self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.scale.len()) {
            self.apply_row(row);
        }
    }

    #[inline(always)]
    fn apply_row(&self, row: &mut [f32]) {
        let count = row.len() as f32;
        let mean = sum(row, |value| value) / count;
        let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
        let factor = 1.0 / (variance + self.epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
            *value = (*value - mean) * factor * scale + shift;
        }
    }
}

/// Adds `bias` to each row.
pub(super) fn add_bias(values: &mut [f32], bias: &[f32]) {
    for row in values.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Adds `bias` to each row, then GELU.
pub(super) fn add_bias_gelu(values: &mut [f32], bias: &[f32]) {
    for row in values.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value = gelu(*value + bias);
        }
    }
}

/// Adds `bias` and the residual to each row, then normalises it.
pub(super) fn add_bias_residual_norm(values: &mut [f32], bias: &[f32], residual: &[f32], norm: &Norm) {
    let width = bias.len();
    for (row, residual) in values.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
        for ((value, bias), residual) in row.iter_mut().zip(bias).zip(residual) {
            *value += bias + residual;
        }
        norm.apply_row(row);
    }
}

/// Softmax of `scale · row` for each row of `width`.
pub(super) fn softmax(values: &mut [f32], width: usize, scale: f32) {
    for row in values.chunks_exact_mut(width) {
        let max = max(row);
        for value in row.iter_mut() {
            *value = exp((*value - max) * scale);
        }
        let factor = 1.0 / sum(row, |value| value);
        for value in row {
            *value *= factor;
        }
    }
}

#[inline(always)]
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let groups = row.chunks_exact(LANES);
    let rest: f32 = groups.remainder().iter().map(|&value| term(value)).sum();
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane += term(value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest value; NaN only if all are.
#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let groups = row.chunks_exact(LANES);
    let rest = groups.remainder().iter().fold(f32::NEG_INFINITY, |max, &value| larger(value, max));
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane = larger(value, *lane);
        }
    }
    lanes.iter().fold(rest, |max, &value| larger(value, max))
}

/// `e^x` for `x ≤ 0`, relative error below 2e-7; below -87 as at -87, which is 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added and taken away again, it rounds to a whole number; its low bits then are that number.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
    const LN_2_HIGH: f32 = 0.693_359_4; // few bits, so that its product with a whole number is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // A comparison lets NaN through, f32::max would not.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    // e^rest on |rest| ≤ ln 2 / 2, fitted for the least relative error (3e-9 before rounding).
    let p = 0.001_381_461_7;
    let p = p * rest + 0.008_368_71;
    let p = p * rest + 0.041_668_39;
    let p = p * rest + 0.166_665_21;
    let p = p * rest + 0.499_999_94;
    let power = (p * rest * rest + rest) + 1.0;
    power * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `x · Φ(x)` with the exact normal distribution Φ, not the tanh formula; absolute error below 2e-6.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf_of_half_square(x))
}

/// `erf(x / √2)`, absolute error below 6e-7: `x · P(x²) / Q(x²)` fitted on |x| ≤ 5.3, where the result reaches 1.
#[inline(always)]
fn erf_of_half_square(x: f32) -> f32 {
    const END: f32 = 5.3;
    let x = if x > END { END } else { x };
    let x = if x < -END { -END } else { x };
    let t = x * x;
    let p = -3.522_298_5e-8;
    let p = p * t + 1.204_592_1e-5;
    let p = p * t + 9.311_276e-4;
    let p = p * t + 0.012_859_651;
    let p = p * t + 0.130_650_82;
    let p = p * t + 0.797_883_2;
    let q = 1.566_618_3e-4;
    let q = q * t + 3.566_377_8e-3;
    let q = q * t + 0.046_205_09;
    let q = q * t + 0.330_401_93;
    let q = q * t + 1.0;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from -span to span.
    fn grid(span: f32) -> impl Iterator<Item = f32> {
        (-100_000..=100_000).map(move |step| step as f32 / 100_000.0 * span)
    }

    #[test]
    fn exp_is_within_its_stated_error() {
        let worst = grid(87.0)
            .filter(|&x| x <= 0.0)
            .map(|x| (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "relative error {worst:e}");
    }

    #[test]
    fn gelu_is_within_its_stated_error() {
        let exact = |x: f32| {
            let x = f64::from(x);
            0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2))
        };
        let worst = grid(12.0).map(|x| (f64::from(gelu(x)) - exact(x)).abs()).fold(0.0, f64::max);
        assert!(worst < 2e-6, "absolute error {worst:e}");
    }

    #[test]
    fn softmax_rows_sum_to_one_however_large_the_scores() {
        let mut rows = vec![1e30, -1e30, 0.0, 7.0, 7.0, 7.0];
        softmax(&mut rows, 3, 0.5);
        assert!((rows[0] - 1.0).abs() < 1e-6 && rows[1] < 1e-30 && rows[2] < 1e-30, "{rows:?}");
        assert!(rows[3..].iter().all(|value| (value - 1.0 / 3.0).abs() < 1e-6), "{rows:?}");
    }

    #[test]
    fn nan_is_not_hidden() {
        let mut row = vec![0.5; 40];
        row[3] = f32::NAN;
        softmax(&mut row, 40, 1.0);
        assert!(row.iter().all(|value| value.is_nan()));
        assert!(gelu(f32::NAN).is_nan());
        let norm = Norm { scale: vec![1.0; 40], shift: vec![0.0; 40], epsilon: 1e-12 };
        norm.apply(&mut row);
        assert!(row.iter().all(|value| value.is_nan()));
    }
}

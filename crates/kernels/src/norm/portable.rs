//! Layer norm of one row in plain Rust.

use super::LayerNorm;

/// Partial sums kept side by side, so that the compiler may add them in vectors.
const LANES: usize = 16;

/// Normalises `row` where it is.
pub(super) fn apply(norm: &LayerNorm, row: &mut [f32]) {
    let count = row.len() as f32;
    let mean = sum(row, |value| value) / count;
    let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    for ((value, scale), shift) in row.iter_mut().zip(&norm.scale).zip(&norm.shift) {
        *value = (*value - mean) * factor * scale + shift;
    }
}

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

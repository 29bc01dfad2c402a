//! Softmax in plain Rust, written so that the compiler makes vectors of it.

use crate::activations::BLOCK;
use crate::exp::exp;
use crate::lanes::{LANES, fold};
use crate::multiply_add::{MultiplyAdd, Separate};

/// Replaces scores by e to the power `scale · (score - max)` and returns their sum.
pub(crate) fn in_place(scores: &mut [f32], scale: f32) -> f32 {
    in_place_with::<Separate>(scores, scale)
}

/// The same on a CPU with AVX2, of whole blocks of 32.
///
/// # Panics
/// If there are no whole blocks of 32 scores.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn in_place_avx2(scores: &mut [f32], scale: f32) -> f32 {
    assert!(scores.len().is_multiple_of(BLOCK), "{} scores", scores.len());
    in_place_with::<crate::multiply_add::Fused>(scores, scale)
}

#[inline(always)]
fn in_place_with<M: MultiplyAdd>(scores: &mut [f32], scale: f32) -> f32 {
    let shift = -max(scores) * scale;
    let weight = |score: f32| exp::<M>(M::multiply_add(score, scale, shift));
    let mut lanes = [0.0; LANES];
    let mut groups = scores.chunks_exact_mut(LANES);
    for group in &mut groups {
        for (lane, score) in lanes.iter_mut().zip(group) {
            *score = weight(*score);
            *lane += *score;
        }
    }
    let rest = groups.into_remainder();
    rest.iter_mut().for_each(|score| *score = weight(*score));
    fold(lanes, |a, b| a + b) + rest.iter().sum::<f32>()
}

/// The largest score; NaN only if all are.
#[inline(always)]
fn max(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let groups = scores.chunks_exact(LANES);
    let rest = groups.remainder().iter().fold(f32::NEG_INFINITY, |max, &score| larger(score, max));
    for group in groups {
        for (lane, &score) in lanes.iter_mut().zip(group) {
            *lane = larger(score, *lane);
        }
    }
    larger(fold(lanes, larger), rest)
}

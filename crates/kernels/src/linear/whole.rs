//! `x · Wᵀ` of the precision of bf16 in whole numbers of sixteen bits: rows quantised on the fly, weights once, sums exact.
//!
//! A row of inputs has twelve bits beside the sign. The weights of an output have as many as its sums of 31 bits leave: that
//! depends on the sum of their sizes, not on the largest that there could be, and is known when they are packed.
//!
//! Here in 512-bit registers, on rows of bf16; in [`avx2`] on rows of f32.

pub(crate) mod avx2;

use super::Share;
use super::bf16::Product;
use super::factors::Scaled;
use crate::activations::{Activations, BLOCK};
use crate::aligned::Aligned;
use crate::convert::avx512::Plain;
use crate::output::Sink;
use crate::output::avx512::kinds::for_lines;
use crate::packed::{PackedLinear, tiles};
use crate::quantise::{FINE_MAX, Form};
use crate::scratch::Scratch;

/// The sum of the sizes of an output's weights: times the largest input it does not run over.
const SIZES_MAX: u32 = i32::MAX.unsigned_abs() / FINE_MAX;

/// More would leave the rounding of weights no room.
const INPUTS_MAX: usize = 1 << 16;

/// Weights in int16, each output with a scale of its own, in the order of those of bf16.
#[derive(Debug)]
pub(crate) struct WholeWeights {
    values: Aligned<u16>,
    /// What a whole number of each output stands for, padded to panels.
    scales: Aligned<f32>,
}

impl WholeWeights {
    /// Quantises `weights` `(outputs, inputs)`.
    ///
    /// # Panics
    /// If there are more than 65,536 inputs.
    pub(crate) fn new(weights: &[f32], inputs: usize) -> Self {
        assert!(inputs <= INPUTS_MAX, "{inputs} inputs of int16, at most {INPUTS_MAX}");
        let mut scales = Aligned::zeros((weights.len() / inputs).next_multiple_of(BLOCK));
        for (scale, row) in scales.iter_mut().zip(weights.chunks_exact(inputs)) {
            *scale = scale_of(row);
        }
        let values =
            tiles(weights, inputs, |output, weight| quantise(weight, scales[output]).cast_unsigned());
        Self { values, scales }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[u16]>(&self.values) + size_of_val::<[f32]>(&self.scales)
    }
}

/// What a whole number of the weights of an output stands for; none where one of them is none.
fn scale_of(weights: &[f32]) -> f32 {
    let sizes: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    if !sizes.is_finite() {
        return f32::NAN;
    }
    // Rounding may add a half to each, and that of the scale some millionths to all.
    let room = f64::from(SIZES_MAX) * 0.999_99 - weights.len() as f64 / 2.0;
    #[expect(clippy::cast_possible_truncation, reason = "finite, and rounded to the nearest")]
    let scale = (sizes / room) as f32;
    scale.max(largest / f32::from(i16::MAX))
}

fn quantise(weight: f32, scale: f32) -> i16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "of sixteen bits by the choice of the scale, zero for NaN"
    )]
    let whole = (weight / scale).round_ties_even() as i16;
    whole
}

/// Computes a share of the product, its shapes checked by the caller.
///
/// # Safety
/// The CPU has AVX-512 and VNNI, and nobody else computes this share.
pub(super) unsafe fn apply(
    linear: &PackedLinear,
    weights: &WholeWeights,
    input: &Activations,
    (sink, share): (Sink<'_>, Share),
    scratch: &mut Scratch,
) {
    let at_once = scratch.quantised.reserve(input.width(), Form::Fine);
    for first in share.rows.clone().step_by(at_once) {
        let rows = first..share.rows.end.min(first + at_once);
        scratch.quantised.fill(input, rows.clone(), Form::Fine);
        let Scratch { quantised, sums, .. } = &mut *scratch;
        let (left, stride) = quantised.fine_lines();
        let product = Product {
            factors: Scaled { rows: quantised.scales(), outputs: &weights.scales },
            left,
            stride,
            weights: &weights.values,
            bias: &linear.bias,
            steps: linear.inputs().div_ceil(BLOCK),
            sink,
            share: Share { rows, panels: share.panels.clone() },
            sums,
        };
        // SAFETY: as the caller says; activations of this tier are lines.
        unsafe { for_lines::<Plain>(sink.ending, product) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::{from_bf16, to_bf16};
    use crate::output::Output;
    use crate::testing;
    use crate::tier::Tier;

    proptest! {
        #[test]
        fn sums_of_the_largest_inputs_do_not_run_over(
            weights in prop::collection::vec(prop_oneof![-1.0_f32..1.0, Just(1.0), Just(1e-3), -1e30_f32..1e30], 1..3000)
        ) {
            let scale = scale_of(&weights);
            let sizes: i64 = weights.iter().map(|weight| i64::from(quantise(*weight, scale)).abs()).sum();
            prop_assert!(sizes * i64::from(FINE_MAX) <= i64::from(i32::MAX), "{sizes}");
            let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
            prop_assert!(largest / scale <= 32767.5);
        }
    }

    #[test]
    fn product_is_that_of_floats_to_half_of_a_step_of_bf16() {
        let test = "product_is_that_of_floats_to_half_of_a_step_of_bf16";
        let shapes = [(1, 1, 1), (13, 100, 33), (40, 384, 64), (200, 1536, 40), (3, 3072, 65)];
        let tiers: Vec<Tier> =
            testing::tiers(test).into_iter().filter(|tier| tier.multiplies_whole_numbers()).collect();
        for (tier, (rows, inputs, outputs)) in
            tiers.into_iter().flat_map(|tier| shapes.map(|shape| (tier, shape)))
        {
            let number = |place: usize| ((place * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.5;
            let values: Vec<f32> =
                (0..rows * inputs).map(|place| from_bf16(to_bf16(number(place)))).collect();
            let weights: Vec<f32> = (0..outputs * inputs).map(|place| number(place * 3 + 1)).collect();
            let mut input = Activations::new(tier, rows, inputs);
            input.fill(&values, inputs);
            let mut found = vec![0.0; rows * outputs];
            let linear = PackedLinear::new(tier, &weights, inputs, &[]);
            linear.apply(&input, Output::Rows(&mut found), &mut Scratch::new(tier, 1, 32));
            for (row, found) in values.chunks_exact(inputs).zip(found.chunks_exact(outputs)) {
                for (weights, found) in weights.chunks_exact(inputs).zip(found) {
                    let products = || row.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (sum, size) =
                        (products().sum::<f64>(), products().map(|product| product.abs()).sum::<f64>());
                    assert!(
                        (f64::from(*found) - sum).abs() <= size / 512.0,
                        "{} {inputs}: {found}, not {sum}",
                        tier.name()
                    );
                }
            }
        }
    }

    #[test]
    fn weights_that_are_zero_or_no_numbers_are_no_more_than_that() {
        assert_eq!((scale_of(&[0.0; 3]), quantise(0.0, 0.0)), (0.0, 0));
        assert!(scale_of(&[1.0, f32::NAN]).is_nan() && scale_of(&[f32::INFINITY]).is_nan());
    }
}

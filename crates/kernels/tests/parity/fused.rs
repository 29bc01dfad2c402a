//! Products whose result is gated or turned on its way out.

use kernels::{Activations, Gate, Output, PackedLinear, Rotation, Scratch, Tier};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

/// What the kernel makes of random rows, and what the twin says of the product before it is gated or turned: the value,
/// and a bound for its error. Weight row `r` of the product is row `order[r]` of the random ones.
struct Case {
    found: Vec<f32>,
    product: Vec<(f64, f64)>,
    step: f64,
}

impl Case {
    fn new(
        tier: Tier,
        (rows, inputs): (usize, usize),
        order: &[usize],
        seed: u64,
        apply: impl FnOnce(&PackedLinear, &Activations, &mut Scratch) -> Activations,
    ) -> Self {
        let values = twin::random(seed, rows * inputs);
        let weights = twin::random(seed + 1, order.len() * inputs);
        let bias = twin::random(seed + 2, order.len());
        let ordered: Vec<f32> =
            order.iter().flat_map(|row| &weights[row * inputs..][..inputs]).copied().collect();
        let ordered_bias: Vec<f32> = order.iter().map(|row| bias[*row]).collect();
        let mut input = Activations::new(tier, rows, inputs);
        input.fill(&values, inputs);
        let linear = PackedLinear::new(tier, &ordered, inputs, &ordered_bias);
        let found = apply(&linear, &input, &mut Scratch::new(tier, 1, 32)).to_rows();
        let product = twin::product(tier, &values, &weights, inputs, &bias);
        let bound = |size: f64| (inputs + 2) as f64 * size * 6e-8 + 1e-6;
        let product = product.into_iter().map(|(sum, size)| (sum, bound(size))).collect();
        Self { found, product, step: twin::half_step(tier) }
    }
}

fn gates() -> impl Strategy<Value = Gate> {
    prop_oneof![Just(Gate::Silu), Just(Gate::Gelu)]
}

fn near(found: f32, expected: f64, tolerance: f64) -> Result<(), TestCaseError> {
    let difference = (f64::from(found) - expected).abs();
    prop_assert!(difference <= tolerance, "{found} is not {expected}, tolerance {tolerance:e}");
    Ok(())
}

proptest! {
    #[test]
    fn gated_output_is_that_of_the_twin(
        rows in 1_usize..80, inputs in 1_usize..140, groups in 1_usize..6, gate in gates(), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("gated_output_is_that_of_the_twin") {
            let outputs = groups * 16;
            let case = Case::new(tier, (rows, inputs), &Gate::order(outputs), seed, |linear, input, scratch| {
                let mut out = Activations::new(tier, rows, outputs);
                linear.apply(input, Output::Gated(&mut out, gate), scratch);
                out
            });
            prop_assert_eq!(case.found.len(), rows * outputs);
            for (place, found) in case.found.iter().enumerate() {
                let at = place / outputs * 2 * outputs + place % outputs;
                let ((value, bound), (gating, gating_bound)) = (case.product[at], case.product[at + outputs]);
                let (through, short) = match gate {
                    Gate::Silu => (twin::silu(gating), 0.0),
                    Gate::Gelu => (twin::gelu(gating), if tier.rounds_to_bfloat16() { 4e-5 } else { 0.0 }),
                };
                // The slopes of both activations are at most 1.13.
                let through_bound = 1.2 * gating_bound + 2e-6 * gating.abs() + short * gating.abs().max(1.0);
                let tolerance = bound * (through.abs() + 1.0) + through_bound * (value.abs() + 1.0);
                near(*found, value * through, tolerance + (value * through).abs() * case.step)?;
            }
        }
    }

    #[test]
    fn queries_and_keys_are_turned_and_values_are_not(
        rows in 1_usize..80, inputs in 1_usize..100, count in 1_usize..4, blocks in 1_usize..4, seed in 0_u64..1 << 32
    ) {
        for tier in tiers("queries_and_keys_are_turned_and_values_are_not") {
            let (width, hidden) = (32 * blocks, 32 * blocks * count);
            let angles = twin::random(seed + 3, rows * width);
            let order: Vec<usize> = (0..3 * hidden).collect();
            let case = Case::new(tier, (rows, inputs), &order, seed, |linear, input, scratch| {
                let mut out = Activations::new(tier, rows, 3 * hidden);
                let rotation = Rotation { angles: &angles, width, columns: 2 * hidden };
                linear.apply(input, Output::Rotated(&mut out, rotation), scratch);
                out
            });
            for (place, found) in case.found.iter().enumerate() {
                let (row, column) = (place / (3 * hidden), place % (3 * hidden));
                let (value, bound) = case.product[place];
                if column >= 2 * hidden {
                    near(*found, value, bound + value.abs() * case.step)?;
                    continue;
                }
                let pair = if column % 32 < 16 { place + 16 } else { place - 16 };
                let (other, other_bound) = case.product[pair];
                let block = &angles[row * width + column % width / 32 * 32..];
                let (cosine, sine) = (f64::from(block[column % 16]), f64::from(block[16 + column % 16]));
                let sine = if column % 32 < 16 { -sine } else { sine };
                let turned = value * cosine + other * sine;
                near(*found, turned, bound + other_bound + turned.abs() * case.step)?;
            }
        }
    }
}

#[test]
#[should_panic(expected = "are no whole panels")]
fn gated_output_of_half_a_panel_panics() {
    let tier = Tier::detect();
    let mut input = Activations::new(tier, 1, 8);
    input.reshape(1, 8);
    let mut out = Activations::new(tier, 1, 8);
    let linear = PackedLinear::new(tier, &[0.0; 16 * 8], 8, &[]);
    linear.apply(&input, Output::Gated(&mut out, Gate::Silu), &mut Scratch::new(tier, 1, 32));
}

#[test]
#[should_panic(expected = "angles of all rows")]
fn rotation_without_an_angle_for_each_row_panics() {
    let tier = Tier::detect();
    let mut input = Activations::new(tier, 2, 8);
    input.reshape(2, 8);
    let mut out = Activations::new(tier, 2, 96);
    let linear = PackedLinear::new(tier, &[0.0; 96 * 8], 8, &[]);
    let rotation = Rotation { angles: &[0.0; 32], width: 32, columns: 64 };
    linear.apply(&input, Output::Rotated(&mut out, rotation), &mut Scratch::new(tier, 1, 32));
}

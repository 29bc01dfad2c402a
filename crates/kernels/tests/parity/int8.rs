//! Products with int8 weights: the same whole numbers in every tier, and near the product that nothing was rounded for.

use kernels::{Activations, Output, PackedLinear, Scratch, Tier};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

type Shape = (usize, usize, usize);

/// Rows, inputs, outputs: mostly small, some past the rows that are quantised at once.
fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        6 => (1_usize..80, 1_usize..300, 1_usize..100),
        1 => (280_usize..300, 1500_usize..1540, 1_usize..40),
        1 => (980_usize..1010, 1_usize..70, 1_usize..40),
    ]
}

/// One layer of a tier and its input; the input is exact in bf16, so that every tier is given the same.
struct Case {
    linear: PackedLinear,
    input: Activations,
    scratch: Scratch,
}

impl Case {
    fn new(tier: Tier, shape: Shape, values: &[f32], seed: u64) -> Self {
        let (rows, inputs, outputs) = shape;
        let mut input = Activations::new(tier, rows, inputs);
        input.fill(values, inputs);
        let (weights, bias) = (twin::random(seed + 1, outputs * inputs), twin::random(seed + 2, outputs));
        Self {
            linear: PackedLinear::new_int8(tier, &weights, inputs, &bias),
            input,
            scratch: Scratch::new(tier, 1, 32),
        }
    }

    fn apply(&mut self, output: Output<'_>) {
        self.linear.apply(&self.input, output, &mut self.scratch);
    }

    fn rows(&mut self, (rows, _, outputs): Shape) -> Vec<f32> {
        // One more in front, so that rows do not begin at a cache line.
        let mut found = vec![0.0; 1 + rows * outputs];
        self.apply(Output::Rows(&mut found[1..]));
        found.split_off(1)
    }
}

fn input(seed: u64, (rows, inputs, _): Shape) -> Vec<f32> {
    twin::rounded_to_bf16(&twin::random(seed, rows * inputs))
}

/// What an output makes of `x`, where it takes activations.
fn activations(
    case: &mut Case,
    tier: Tier,
    shape: Shape,
    output: fn(&mut Activations) -> Output<'_>,
) -> Vec<f32> {
    let mut found = Activations::new(tier, shape.0, shape.2);
    case.apply(output(&mut found));
    found.to_rows()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn int8_rows_are_those_of_the_twin_and_bit_equal_in_every_tier(shape in shapes(), seed in 0_u64..1 << 32) {
        let values = input(seed, shape);
        let mut first: Option<Vec<f32>> = None;
        for tier in tiers("int8_rows_are_those_of_the_twin_and_bit_equal_in_every_tier") {
            let found = Case::new(tier, shape, &values, seed).rows(shape);
            let weights = twin::random(seed + 1, shape.2 * shape.1);
            let expected = twin::int8_linear(&values, &weights, shape.1, &twin::random(seed + 2, shape.2));
            for (found, expected) in found.iter().zip(&expected) {
                let difference = (f64::from(*found) - expected).abs();
                prop_assert!(difference <= expected.abs() * 1e-6 + 1e-6, "{found} is not {expected}");
            }
            let same = first.get_or_insert_with(|| found.clone());
            prop_assert!(found == *same, "{} differs", tier.name());
        }
    }

    #[test]
    fn int8_outputs_are_made_of_the_rows(shape in shapes(), seed in 0_u64..1 << 32) {
        let values = input(seed, shape);
        for tier in tiers("int8_outputs_are_made_of_the_rows") {
            let mut case = Case::new(tier, shape, &values, seed);
            let rows = case.rows(shape);
            let mut added = vec![1.0; rows.len()];
            case.apply(Output::AddTo(&mut added));
            prop_assert!(added.iter().zip(&rows).all(|(added, row)| (added - 1.0 - row).abs() <= 4e-7 * (2.0 + row.abs())));
            let step = twin::half_step(tier);
            let near = |found: &[f32], expected: &dyn Fn(f64) -> f64| {
                found.iter().zip(&rows).all(|(found, row)| {
                    let expected = expected(f64::from(*row));
                    (f64::from(*found) - expected).abs() <= expected.abs() * step + 5e-5
                })
            };
            prop_assert!(near(&activations(&mut case, tier, shape, |to| Output::Activations(to)), &|row| row));
            prop_assert!(near(&activations(&mut case, tier, shape, |to| Output::Gelu(to)), &twin::gelu));
        }
    }

    #[test]
    fn int8_breaks_the_row_of_a_broken_number_and_no_other(
        shape in shapes(),
        row in 0_usize..1000,
        column in 0_usize..1000,
        broken in prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ) {
        let mut values = input(1, shape);
        let (row, column) = (row % shape.0, column % shape.1);
        values[row * shape.1 + column] = broken;
        for tier in tiers("int8_breaks_the_row_of_a_broken_number_and_no_other") {
            let mut case = Case::new(tier, shape, &values, 1);
            let mut added = vec![1.0; shape.0 * shape.2];
            case.apply(Output::AddTo(&mut added));
            let found = [
                case.rows(shape),
                added,
                activations(&mut case, tier, shape, |to| Output::Activations(to)),
                activations(&mut case, tier, shape, |to| Output::Gelu(to)),
            ];
            for (index, found) in found.iter().enumerate() {
                for (place, values) in found.chunks_exact(shape.2).enumerate() {
                    let all_nan = values.iter().all(|value| value.is_nan());
                    let none = values.iter().all(|value| value.is_finite());
                    prop_assert!(if place == row { all_nan } else { none }, "output {index}, row {place}, {}", tier.name());
                }
            }
        }
    }
}

#[test]
fn int8_product_has_nearly_the_direction_of_the_exact_one() {
    let shape = (40, 384, 200);
    for tier in tiers("int8_product_has_nearly_the_direction_of_the_exact_one") {
        for seed in 0..5 {
            let values = input(seed, shape);
            let found = Case::new(tier, shape, &values, seed).rows(shape);
            let weights = twin::random(seed + 1, shape.2 * shape.1);
            let exact = twin::linear(&values, &weights, shape.1, &twin::random(seed + 2, shape.2));
            for (found, exact) in found.chunks_exact(shape.2).zip(exact.chunks_exact(shape.2)) {
                let exact: Vec<f64> = exact.iter().map(|(sum, _)| *sum).collect();
                let cosine = twin::cosine(found, &exact);
                assert!(cosine > 0.9999, "seed {seed}, {}: {cosine}", tier.name());
            }
        }
    }
}

#[test]
fn int8_rows_of_zeros_are_the_bias() {
    let shape = (3, 70, 40);
    for tier in tiers("int8_rows_of_zeros_are_the_bias") {
        let found = Case::new(tier, shape, &[0.0; 210], 7).rows(shape);
        assert!(found.chunks_exact(40).all(|row| row == twin::random(9, 40)), "{}", tier.name());
    }
}

#[test]
fn int8_weights_that_are_no_number_make_their_output_nan() {
    for tier in tiers("int8_weights_that_are_no_number_make_their_output_nan") {
        let linear = PackedLinear::new_int8(tier, &[1.0, f32::NAN, 1.0, 2.0], 2, &[]);
        let mut input = Activations::new(tier, 1, 2);
        input.fill(&[1.0, 1.0], 2);
        let mut found = [0.0; 2];
        linear.apply(&input, Output::Rows(&mut found), &mut Scratch::new(tier, 1, 32));
        assert!(found[0].is_nan() && (found[1] - 3.0).abs() < 0.02, "{found:?}");
    }
}

//! Products of random shapes: one row, odd rows, widths that are no multiple of a tile.

use kernels::{Activations, Output, PackedLinear, Scratch, Tier};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

/// One product, with what the twin says of it: the value, and the sum of the sizes of its parts.
struct Case {
    tier: Tier,
    linear: PackedLinear,
    input: Activations,
    scratch: Scratch,
    expected: Vec<(f64, f64)>,
}

impl Case {
    fn new(tier: Tier, (rows, inputs, outputs): (usize, usize, usize), seed: u64) -> Self {
        let values = twin::random(seed, rows * inputs);
        let weights = twin::random(seed + 1, outputs * inputs);
        let bias = twin::random(seed + 2, outputs);
        let mut input = Activations::new(tier, rows, inputs);
        input.fill(&values, inputs);
        Self {
            tier,
            linear: PackedLinear::new(tier, &weights, inputs, &bias),
            input,
            scratch: Scratch::new(tier, 1, 32),
            expected: twin::product(tier, &values, &weights, inputs, &bias),
        }
    }

    /// The rounding of f32 is at most 2⁻²⁴ for each of `inputs` additions, of the sizes added.
    fn tolerance(&self, size: f64) -> f64 {
        (self.linear.inputs() + 2) as f64 * size * 6e-8 + 1e-6
    }

    fn apply(&mut self, output: Output<'_>) {
        self.linear.apply(&self.input, output, &mut self.scratch);
    }
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    (1_usize..80, 1_usize..140, 1_usize..100)
}

fn check(found: &[f32], expected: impl Iterator<Item = (f64, f64)>) -> Result<(), TestCaseError> {
    for (place, (found, (expected, tolerance))) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        prop_assert!(difference <= tolerance, "{place}: {found} is not {expected}, tolerance {tolerance:e}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn rows_are_those_of_the_twin(shape in shapes(), seed in 0_u64..1 << 32) {
        for tier in tiers("rows_are_those_of_the_twin") {
            let mut case = Case::new(tier, shape, seed);
            // One more in front, so that rows do not begin at a cache line.
            let mut found = vec![0.0; 1 + shape.0 * shape.2];
            case.apply(Output::Rows(&mut found[1..]));
            check(&found[1..], case.expected.iter().map(|(sum, size)| (*sum, case.tolerance(*size))))?;
        }
    }

    #[test]
    fn residual_is_added_to(shape in shapes(), seed in 0_u64..1 << 32) {
        for tier in tiers("residual_is_added_to") {
            let mut case = Case::new(tier, shape, seed);
            let residual = twin::random(seed + 3, shape.0 * shape.2);
            let mut found = residual.clone();
            case.apply(Output::AddTo(&mut found));
            let expected = case.expected.iter().zip(&residual);
            check(&found, expected.map(|((sum, size), r)| (sum + f64::from(*r), case.tolerance(*size + 1.0))))?;
        }
    }

    #[test]
    fn activations_are_those_of_the_twin(shape in shapes(), seed in 0_u64..1 << 32) {
        for tier in tiers("activations_are_those_of_the_twin") {
            let mut case = Case::new(tier, shape, seed);
            let mut found = Activations::new(tier, shape.0, shape.2);
            case.apply(Output::Activations(&mut found));
            let step = twin::half_step(case.tier);
            let expected = case.expected.iter();
            check(&found.to_rows(), expected.map(|(sum, size)| (*sum, case.tolerance(*size) + sum.abs() * step)))?;
        }
    }

    #[test]
    fn gelu_is_that_of_the_twin(shape in shapes(), seed in 0_u64..1 << 32) {
        for tier in tiers("gelu_is_that_of_the_twin") {
            let mut case = Case::new(tier, shape, seed);
            let mut found = Activations::new(tier, shape.0, shape.2);
            case.apply(Output::Gelu(&mut found));
            let step = twin::half_step(case.tier);
            // The slope of GELU is at most 1.13. What becomes bf16 has a shorter polynomial.
            let short = if case.tier.rounds_to_bfloat16() { 4e-5 } else { 0.0 };
            let expected = case.expected.iter().map(|(sum, size)| {
                let gelu = twin::gelu(*sum);
                (gelu, 1.2 * case.tolerance(*size) + 1e-6 * sum.abs() + gelu.abs() * step + short)
            });
            check(&found.to_rows(), expected)?;
        }
    }

    #[test]
    fn output_of_one_product_is_the_input_of_the_next(shape in shapes(), seed in 0_u64..1 << 32) {
        for tier in tiers("output_of_one_product_is_the_input_of_the_next") {
            let mut case = Case::new(tier, shape, seed);
            let mut between = Activations::new(tier, shape.0, shape.2);
            case.apply(Output::Activations(&mut between));
            let weights = twin::random(seed + 4, 33 * shape.2);
            let second = PackedLinear::new(tier, &weights, shape.2, &[]);
            let mut found = vec![0.0; shape.0 * 33];
            second.apply(&between, Output::Rows(&mut found), &mut case.scratch);
            let expected = twin::product(tier, &between.to_rows(), &weights, shape.2, &[]);
            check(&found, expected.iter().map(|(sum, size)| (*sum, size * shape.2 as f64 * 6e-8 + 1e-6)))?;
        }
    }

    #[test]
    fn broken_number_breaks_its_row_and_no_other(
        shape in shapes(), row in 0_usize..80, broken in prop_oneof![Just(f32::NAN), Just(f32::INFINITY)]
    ) {
        for tier in tiers("broken_number_breaks_its_row_and_no_other") {
            let mut case = Case::new(tier, shape, 1);
            let (rows, inputs, outputs) = shape;
            let mut values = twin::random(1, rows * inputs);
            let row = row % rows;
            values[row * inputs] = broken;
            case.input.fill(&values, inputs);
            let mut found = vec![0.0; rows * outputs];
            case.apply(Output::Rows(&mut found));
            for (index, values) in found.chunks_exact(outputs).enumerate() {
                prop_assert_eq!(values.iter().all(|value| !value.is_finite()), index == row);
                prop_assert_eq!(values.iter().all(|value| value.is_finite()), index != row);
            }
        }
    }
}

/// More inputs than are multiplied in one go, and more rows than share what was fetched.
#[test]
fn deep_and_tall_products_are_those_of_the_twin() {
    for tier in tiers("deep_and_tall_products_are_those_of_the_twin") {
        for shape in
            [(1100, 380, 33), (600, 500, 40), (257, 800, 33), (150, 3000, 33), (70, 1000, 65), (20, 1000, 65)]
        {
            let mut case = Case::new(tier, shape, 1);
            let mut found = vec![0.0; shape.0 * shape.2];
            case.apply(Output::Rows(&mut found));
            check(&found, case.expected.iter().map(|(sum, size)| (*sum, case.tolerance(*size)))).unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "width of the input")]
fn input_of_another_width_panics() {
    let mut case = Case::new(Tier::detect(), (2, 32, 32), 1);
    case.input.reshape(2, 31);
    case.apply(Output::Rows(&mut [0.0; 64]));
}

#[test]
#[should_panic(expected = "output of 63 values")]
fn output_of_another_size_panics() {
    let mut case = Case::new(Tier::detect(), (2, 32, 32), 1);
    case.apply(Output::Rows(&mut [0.0; 63]));
}

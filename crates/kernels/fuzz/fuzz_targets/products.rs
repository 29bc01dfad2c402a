//! Products of any shape and any values, NaN and infinity among them: every tier against the twin of the parity tests.
//!
//! `cargo +nightly fuzz run products --fuzz-dir crates/kernels/fuzz`, from the root of the workspace.
#![no_main]

#[expect(dead_code, reason = "some of it is for tests of other kernels")]
#[path = "../../tests/parity/twin.rs"]
mod twin;

use kernels::{Activations, Output, PackedLinear, Scratch, Tier};
use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Above it sums may leave the range of f32, below it the twin says what they are.
const LARGEST: f32 = 1e15;

fuzz_target!(|case: Case| {
    kernels::software_tiles::switch_on();
    for weights in [Weights::Float, Weights::Int8] {
        for tier in Tier::available() {
            case.check(tier, weights, &case.expected(tier, weights));
        }
    }
});

#[derive(Debug, Clone, Copy)]
enum Weights {
    Float,
    Int8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum To {
    Rows,
    AddTo,
    Activations,
    Gelu,
}

/// One layer and its input; both are exact in bf16, so that every tier is given the same.
#[derive(Debug)]
struct Case {
    rows: usize,
    inputs: usize,
    outputs: usize,
    to: To,
    input: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(from: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (rows, inputs, outputs) =
            (from.int_in_range(1..=100)?, from.int_in_range(1..=300)?, from.int_in_range(1..=100)?);
        let (to, seed) = (from.arbitrary()?, from.arbitrary::<u32>()?);
        let mut input = twin::random(seed.into(), rows * inputs);
        let weights = twin::rounded_to_bf16(&twin::random(u64::from(seed) + 1, outputs * inputs));
        let bias = twin::random(u64::from(seed) + 2, outputs);
        // Any bits at any place, as long as the bytes last.
        while !from.is_empty() {
            let place = from.int_in_range(0..=input.len() - 1)?;
            input[place] = f32::from_bits(from.arbitrary()?);
        }
        Ok(Self { rows, inputs, outputs, to, input: rounded(&input), weights, bias })
    }
}

/// To bf16; what is not finite stays so.
fn rounded(values: &[f32]) -> Vec<f32> {
    let finite = twin::rounded_to_bf16(
        &values.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect::<Vec<_>>(),
    );
    values.iter().zip(finite).map(|(x, rounded)| if x.is_finite() { rounded } else { *x }).collect()
}

impl Case {
    fn check(&self, tier: Tier, weights: Weights, expected: &[(f64, f64)]) {
        let found = self.apply(tier, weights);
        let rows = self.input.chunks_exact(self.inputs).zip(found.chunks_exact(self.outputs));
        for ((row, found), expected) in rows.zip(expected.chunks_exact(self.outputs)) {
            let largest = row.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            if row.iter().any(|x| !x.is_finite()) {
                self.check_broken(tier, weights, found);
            } else if largest <= LARGEST {
                found
                    .iter()
                    .zip(expected)
                    .for_each(|(found, expected)| self.check_value(tier, *found, *expected));
            }
        }
    }

    fn check_broken(&self, tier: Tier, weights: Weights, found: &[f32]) {
        let broken = match (weights, self.to) {
            // GELU of minus infinity is zero.
            (Weights::Float, To::Gelu) => true,
            (Weights::Float, _) => found.iter().all(|value| !value.is_finite()),
            (Weights::Int8, _) => found.iter().all(|value| value.is_nan()),
        };
        assert!(broken, "{} {weights:?} {:?}: {found:?} of a broken row", tier.name(), self.to);
    }

    fn check_value(&self, tier: Tier, found: f32, (sum, size): (f64, f64)) {
        let slack = (self.inputs + 2) as f64 * size * 1e-7 + 1e-6;
        let step = twin::half_step(tier);
        let (expected, tolerance) = match self.to {
            To::Rows => (sum, slack),
            To::AddTo => (sum + 1.0, slack + 1e-6),
            To::Activations => (sum, slack + sum.abs() * step),
            To::Gelu => (twin::gelu(sum), 1.2 * slack + sum.abs() * (1e-6 + step) + 4e-5),
        };
        let difference = (f64::from(found) - expected).abs();
        assert!(difference <= tolerance, "{} {:?}: {found} is not {expected}", tier.name(), self.to);
    }

    /// Each sum, and the size of what was added.
    fn expected(&self, tier: Tier, weights: Weights) -> Vec<(f64, f64)> {
        let exact = twin::linear(&self.input, &self.weights, self.inputs, &self.bias);
        match weights {
            Weights::Float => twin::product(tier, &self.input, &self.weights, self.inputs, &self.bias),
            Weights::Int8 => {
                let sums = twin::int8_linear(&self.input, &self.weights, self.inputs, &self.bias);
                sums.into_iter().zip(exact).map(|(sum, (_, size))| (sum, size)).collect()
            }
        }
    }

    fn apply(&self, tier: Tier, weights: Weights) -> Vec<f32> {
        let pack = match weights {
            Weights::Float => PackedLinear::new,
            Weights::Int8 => PackedLinear::new_int8,
        };
        let linear = pack(tier, &self.weights, self.inputs, &self.bias);
        let mut input = Activations::new(tier, self.rows, self.inputs);
        input.fill(&self.input, self.inputs);
        let mut scratch = Scratch::new(tier, 1, 32);
        let mut rows = vec![1.0; self.rows * self.outputs];
        let mut activations = Activations::new(tier, self.rows, self.outputs);
        match self.to {
            To::Rows => linear.apply(&input, Output::Rows(&mut rows), &mut scratch),
            To::AddTo => linear.apply(&input, Output::AddTo(&mut rows), &mut scratch),
            To::Activations => linear.apply(&input, Output::Activations(&mut activations), &mut scratch),
            To::Gelu => linear.apply(&input, Output::Gelu(&mut activations), &mut scratch),
        }
        match self.to {
            To::Rows | To::AddTo => rows,
            To::Activations | To::Gelu => activations.to_rows(),
        }
    }
}

//! What is measured: the shapes of all-MiniLM-L6-v2 and of nomic-embed-text-v1.5.

use kernels::{Activations, Gate, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rows of many texts, and of a short query.
pub(super) const ROWS: usize = 256;
const QUERY_ROWS: usize = 8;
/// Columns of the residual stream of all-MiniLM-L6-v2.
pub(super) const HIDDEN: usize = 384;

/// One kernel of one shape.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    pub(super) shape: String,
    pub(super) work: Work,
    pub(super) run: Box<dyn FnMut()>,
    /// The same without what is to be measured.
    pub(super) without: Option<Box<dyn FnMut()>>,
}

/// What one run amounts to; a multiply-add is two operations.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Operations of floats.
    Floats(f64),
    /// Operations of int8.
    Int8(f64),
    /// Bytes that are read and written at least.
    Bytes(f64),
}

impl Work {
    pub(super) fn amount(self) -> f64 {
        let (Self::Floats(amount) | Self::Int8(amount) | Self::Bytes(amount)) = self;
        amount
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Floats(_) | Self::Int8(_) => "Gop/s",
            Self::Bytes(_) => "GB/s",
        }
    }
}

/// How weights are multiplied.
#[derive(Debug, Clone, Copy)]
enum Weights {
    Float,
    Int8,
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Activations,
    AddTo,
    Gelu,
    SwiGlu,
}

impl Ending {
    fn kernel(self) -> &'static str {
        match self {
            Self::Activations => "product",
            Self::AddTo => "product, added",
            Self::Gelu => "product, GELU",
            Self::SwiGlu => "product, SwiGLU",
        }
    }
}

/// Inputs and outputs of the products of a layer, and what becomes of them.
const PRODUCTS: [(usize, usize, Ending); 8] = [
    (HIDDEN, 3 * HIDDEN, Ending::Activations),
    (HIDDEN, HIDDEN, Ending::AddTo),
    (HIDDEN, 4 * HIDDEN, Ending::Gelu),
    (4 * HIDDEN, HIDDEN, Ending::AddTo),
    (768, 3 * 768, Ending::Activations),
    (768, 768, Ending::AddTo),
    (768, 2 * 3072, Ending::SwiGlu),
    (3072, 768, Ending::AddTo),
];

/// All cases of a tier.
pub(super) fn all(tier: Tier) -> impl Iterator<Item = Case> {
    let products = [Weights::Float, Weights::Int8].into_iter().flat_map(move |weights| {
        let of = move |rows| PRODUCTS.map(|shape| product(tier, weights, rows, shape)).into_iter();
        of(ROWS).chain(of(QUERY_ROWS).take(4))
    });
    let attentions = [(12, 32, 128), (12, 64, 128), (12, 64, 512)].map(|shape| attend(tier, shape));
    products.chain(attentions).chain([gelu(tier), norm(tier)])
}

fn product(tier: Tier, weights: Weights, rows: usize, (inputs, outputs, ending): Shape) -> Case {
    let operations = (2 * rows * inputs * outputs) as f64;
    let (name, work) = match weights {
        Weights::Float => ("", Work::Floats(operations)),
        Weights::Int8 => (" int8", Work::Int8(operations)),
    };
    let shape = format!("{rows} rows, {inputs} to {outputs}{name}");
    let run = apply(tier, weights, rows, (inputs, outputs, ending));
    Case { kernel: ending.kernel(), shape, work, run, without: None }
}

type Shape = (usize, usize, Ending);

/// A product that can be run.
fn apply(tier: Tier, weights: Weights, rows: usize, (inputs, outputs, ending): Shape) -> Box<dyn FnMut()> {
    let (values, bias) = (random(inputs * outputs), random(outputs));
    let linear = match weights {
        Weights::Float => PackedLinear::new(tier, &values, inputs, &bias),
        Weights::Int8 => PackedLinear::new_int8(tier, &values, inputs, &bias),
    };
    let input = filled(tier, rows, inputs);
    let mut to = Activations::new(tier, rows, outputs);
    let mut stream = vec![0.0; rows * outputs];
    let mut scratch = Scratch::new(tier, 1, 32);
    Box::new(move || {
        let output = match ending {
            Ending::Activations => Output::Activations(&mut to),
            Ending::AddTo => Output::AddTo(&mut stream),
            Ending::Gelu => Output::Gelu(&mut to),
            Ending::SwiGlu => Output::Gated(&mut to, Gate::Silu),
        };
        linear.apply(&input, output, &mut scratch);
    })
}

/// Two products for each head and text: scores, and weights times values.
fn attend(tier: Tier, (count, width, tokens): (usize, usize, usize)) -> Case {
    let (heads, hidden, lengths) = (Heads::new(count, width), count * width, [tokens; 2]);
    let rows = tokens * lengths.len();
    let qkv = filled(tier, rows, 3 * hidden);
    let mut out = Activations::new(tier, rows, hidden);
    let mut scratch = Scratch::new(tier, tokens, width);
    Case {
        kernel: "attention",
        shape: format!("{} texts of {tokens}, {count} heads of {width}", lengths.len()),
        work: Work::Floats((4 * rows * tokens * hidden) as f64),
        run: Box::new(move || attention(&qkv, &lengths, heads, &mut out, &mut scratch)),
        without: None,
    }
}

/// What the GELU adds to a product; at least each value is read and written.
fn gelu(tier: Tier) -> Case {
    let of = |ending| apply(tier, Weights::Float, ROWS, (32, 4 * HIDDEN, ending));
    Case {
        kernel: "GELU alone",
        shape: format!("{ROWS} rows of {}", 4 * HIDDEN),
        work: Work::Bytes((8 * ROWS * 4 * HIDDEN) as f64),
        run: of(Ending::Gelu),
        without: Some(of(Ending::Activations)),
    }
}

/// The residual stream is read and written, and what the next product reads is written.
fn norm(tier: Tier) -> Case {
    let norm = LayerNorm::new(&random(HIDDEN), &random(HIDDEN), 1e-12);
    let mut rows = random(ROWS * HIDDEN);
    let mut to = Activations::new(tier, ROWS, HIDDEN);
    let mut scratch = Scratch::new(tier, 1, 32);
    let written = if tier.rounds_to_bfloat16() { 2 } else { 4 };
    Case {
        kernel: "layer norm",
        shape: format!("{ROWS} rows of {HIDDEN}"),
        work: Work::Bytes(((8 + written) * ROWS * HIDDEN) as f64),
        run: Box::new(move || norm.apply(&mut rows, &mut to, &mut scratch)),
        without: None,
    }
}

fn filled(tier: Tier, rows: usize, width: usize) -> Activations {
    let mut activations = Activations::new(tier, rows, width);
    activations.fill(&random(rows * width), width);
    activations
}

/// Values in [-1, 1), the same in every run.
fn random(count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(1);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_in_every_tier() {
        for tier in Tier::available() {
            for mut case in all(tier).filter(|case| case.work.amount() < 1e8) {
                (case.run)();
                case.without.iter_mut().for_each(|without| without());
            }
        }
    }
}

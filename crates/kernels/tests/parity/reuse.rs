//! Buffers that a larger pass has filled with broken numbers.

use kernels::{Activations, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};

use super::tiers::tiers;
use super::twin;

const HEADS: usize = 2;
const WIDTH: usize = 64;
const HIDDEN: usize = HEADS * WIDTH;
/// Texts of the larger pass, and of the one that is compared.
const LARGER: [usize; 2] = [200, 120];
const SMALLER: [usize; 3] = [5, 33, 40];

/// Everything that a caller keeps from pass to pass.
struct Buffers {
    tier: Tier,
    qkv: PackedLinear,
    down: PackedLinear,
    input: Activations,
    between: Activations,
    out: Activations,
    scratch: Scratch,
}

impl Buffers {
    fn new(tier: Tier) -> Self {
        let tokens = LARGER.iter().sum();
        let linear = |seed, outputs, inputs| {
            let weights: Vec<f32> =
                twin::random(seed, outputs * inputs).iter().map(|value| 0.1 * value).collect();
            PackedLinear::new(tier, &weights, inputs, &twin::random(seed + 1, outputs))
        };
        Self {
            tier,
            qkv: linear(1, 3 * HIDDEN, HIDDEN),
            down: linear(3, HIDDEN, 3 * HIDDEN),
            input: Activations::new(tier, tokens, HIDDEN),
            between: Activations::new(tier, tokens, 3 * HIDDEN),
            out: Activations::new(tier, tokens, HIDDEN),
            scratch: Scratch::new(tier, LARGER[0], WIDTH),
        }
    }

    /// Queries, keys and values, attention, a wide product with GELU, a deep one, and a norm.
    fn pass(&mut self, lengths: &[usize], values: &[f32]) -> Vec<f32> {
        let Self { qkv, down, input, between, out, scratch, .. } = self;
        input.fill(values, HIDDEN);
        qkv.apply(input, Output::Activations(between), &mut *scratch);
        attention(between, lengths, Heads::new(HEADS, WIDTH), out, &mut *scratch);
        qkv.apply(out, Output::Gelu(between), &mut *scratch);
        let mut rows = values.to_vec();
        down.apply(between, Output::AddTo(&mut rows), &mut *scratch);
        LayerNorm::new(&[1.0; HIDDEN], &[0.0; HIDDEN], 1e-5).apply(&mut rows, input, scratch);
        rows.extend(input.to_rows());
        rows
    }
}

#[test]
fn pass_after_a_larger_one_of_nan_is_as_in_new_buffers() {
    for tier in tiers("pass_after_a_larger_one_of_nan_is_as_in_new_buffers") {
        let values = twin::random(5, SMALLER.iter().sum::<usize>() * HIDDEN);
        let mut buffers = Buffers::new(tier);
        let fresh = buffers.pass(&SMALLER, &values);
        let broken = buffers.pass(&LARGER, &vec![f32::NAN; LARGER.iter().sum::<usize>() * HIDDEN]);
        assert!(broken.iter().all(|value| value.is_nan()), "{}", buffers.tier.name());
        assert_eq!(buffers.pass(&SMALLER, &values), fresh, "{}", buffers.tier.name());
    }
}

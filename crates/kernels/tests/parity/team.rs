//! A layer computed by several threads at once, against the same by one: equal to the bit.

use kernels::{
    Activations, Crew, Gate, Heads, LayerNorm, Output, PackedLinear, Rotation, Scratch, Team, Tier, attention,
};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

const HEADS: usize = 3;
const WIDTH: usize = 32;
const HIDDEN: usize = HEADS * WIDTH;
const WIDE: usize = 224;

type Pack = fn(Tier, &[f32], usize, &[f32]) -> PackedLinear;

/// Every kind of output, attention and norms.
struct Layer {
    tier: Tier,
    qkv: PackedLinear,
    up: PackedLinear,
    gated: PackedLinear,
    down: PackedLinear,
    norm: LayerNorm,
}

impl Layer {
    fn new(tier: Tier, pack: Pack) -> Self {
        let linear = |seed, outputs, inputs| {
            let weights: Vec<f32> = twin::random(seed, outputs * inputs).iter().map(|v| 0.2 * v).collect();
            pack(tier, &weights, inputs, &twin::random(seed + 1, outputs))
        };
        Self {
            tier,
            qkv: linear(1, 3 * HIDDEN, HIDDEN),
            up: linear(3, WIDE, HIDDEN),
            gated: linear(5, 2 * WIDE, WIDE),
            // Its outputs are no whole panels.
            down: linear(7, HIDDEN - 5, WIDE),
            norm: LayerNorm::new(&twin::random(9, HIDDEN - 5), &twin::random(10, HIDDEN - 5), 1e-5),
        }
    }

    fn forward(&self, lengths: &[usize], values: &[f32], team: &mut Team<'_>) -> Vec<f32> {
        let tokens = lengths.iter().sum();
        let activations = |width| Activations::new(self.tier, tokens, width);
        let (mut input, mut wide, mut out) =
            (activations(HIDDEN), activations(3 * HIDDEN), activations(WIDE));
        input.fill(values, HIDDEN);
        let angles = twin::random(11, tokens * WIDTH);
        let rotation = Rotation { angles: &angles, width: WIDTH, columns: 2 * HIDDEN };
        self.qkv.apply(&input, Output::Rotated(&mut wide, rotation), &mut *team);
        attention(&wide, lengths, Heads::new(HEADS, WIDTH), &mut input, &mut *team);
        self.up.apply(&input, Output::Gelu(&mut out), &mut *team);
        self.gated.apply(&out, Output::Gated(&mut wide, Gate::Silu), &mut *team);
        let mut rows = vec![1.0; tokens * (HIDDEN - 5)];
        self.down.apply(&wide, Output::AddTo(&mut rows), &mut *team);
        self.norm.copy(&rows, &mut input, &mut *team);
        let mut all = input.to_rows();
        self.norm.apply(&mut rows, &mut input, &mut *team);
        self.up.apply(&wide_again(self.tier, &rows, tokens), Output::Activations(&mut out), &mut *team);
        all.extend(rows);
        all.extend(out.to_rows());
        all
    }
}

/// The rows as an input as wide as `up` takes.
fn wide_again(tier: Tier, rows: &[f32], tokens: usize) -> Activations {
    let mut input = Activations::new(tier, tokens, HIDDEN);
    let padded: Vec<f32> =
        rows.chunks_exact(HIDDEN - 5).flat_map(|row| row.iter().copied().chain([0.5; 5])).collect();
    input.fill(&padded, HIDDEN);
    input
}

fn together(layer: &Layer, members: usize, lengths: &[usize], values: &[f32]) -> Vec<f32> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut scratches: Vec<Scratch> =
        (0..members).map(|_| Scratch::new(layer.tier, longest, WIDTH)).collect();
    let crew = Crew::new(members);
    std::thread::scope(|scope| {
        for _ in 1..members {
            scope.spawn(|| crew.follow());
        }
        crew.lead(&mut scratches, |team| layer.forward(lengths, values, team))
    })
}

fn same_in_a_team(pack: Pack, test: &str, members: usize, lengths: &[usize]) {
    for tier in tiers(test) {
        let layer = Layer::new(tier, pack);
        let values = twin::random(12, lengths.iter().sum::<usize>() * HIDDEN);
        let alone = together(&layer, 1, lengths, &values);
        assert!(alone.iter().all(|value| value.is_finite()));
        let shared = together(&layer, members, lengths, &values);
        assert!(shared == alone, "{} {members} {lengths:?}", tier.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layer_of_a_team_is_that_of_one_thread(
        members in 2_usize..5, lengths in prop::collection::vec(1_usize..150, 1..4)
    ) {
        same_in_a_team(PackedLinear::new, "layer_of_a_team_is_that_of_one_thread", members, &lengths);
    }

    #[test]
    fn int8_layer_of_a_team_is_that_of_one_thread(
        members in 2_usize..5, lengths in prop::collection::vec(1_usize..150, 1..4)
    ) {
        same_in_a_team(PackedLinear::new_int8, "int8_layer_of_a_team_is_that_of_one_thread", members, &lengths);
    }
}

#[test]
fn one_token_and_a_thousand_are_the_same_in_a_team() {
    for lengths in [&[1][..], &[1030], &[3, 700]] {
        same_in_a_team(PackedLinear::new, "one_token_and_a_thousand_are_the_same_in_a_team", 2, lengths);
    }
}

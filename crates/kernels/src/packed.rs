//! Weights in the order in which a kernel reads them.

use crate::activations::{Activations, BLOCK};
use crate::aligned::Aligned;
use crate::convert::to_bf16;
use crate::crew::Team;
#[cfg(target_arch = "x86_64")]
use crate::linear::whole::WholeWeights;
use crate::linear::{self, int8::Int8Weights};
use crate::output::Output;
use crate::tier::{Kind, PanelKind, Tier};

/// A linear layer `y = x · Wᵀ + b`, its weights packed for a tier.
///
/// ```text
///  a panel is 32 outputs; panels follow one another, each padded with zeros
///   bf16:     for every 32 inputs two tiles of 16 outputs, a tile = 16 lines (pair of inputs) × 16 outputs × 2; int16 in
///             the tiers that multiply that, each output scaled
///   AVX-512, AVX2: for every input a line of 32 outputs, f32
///   portable: for every input a line of all outputs, f32
/// ```
#[derive(Debug)]
pub struct PackedLinear {
    tier: Tier,
    inputs: usize,
    outputs: usize,
    pub(crate) weights: Weights,
    /// Padded with zeros to whole panels.
    pub(crate) bias: Aligned<f32>,
}

#[derive(Debug)]
pub(crate) enum Weights {
    Tiles(Aligned<u16>),
    #[cfg(target_arch = "x86_64")]
    Whole(WholeWeights),
    /// And what multiplies them.
    Panels(PanelKind, Aligned<f32>),
    /// `(inputs, outputs)`
    Matrix(Aligned<f32>),
    Int8(Int8Weights),
}

impl PackedLinear {
    /// Packs `weights` `(outputs, inputs)` and `bias` `(outputs)`, which may be empty.
    ///
    /// # Panics
    /// If the bias is neither empty nor as long as there are outputs, or if `weights` are not `outputs · inputs`.
    #[must_use]
    pub fn new(tier: Tier, weights: &[f32], inputs: usize, bias: &[f32]) -> Self {
        Self::pack(tier, weights, inputs, bias, |tier, weights, inputs| match tier.kind() {
            #[cfg(target_arch = "x86_64")]
            _ if tier.multiplies_whole_numbers() => Weights::Whole(WholeWeights::new(weights, inputs)),
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx2Int16 => {
                Weights::Tiles(tiles(weights, inputs, |_, weight| to_bf16(weight)))
            }
            Kind::Avx512 => Weights::Panels(PanelKind::Avx512, panels(weights, inputs)),
            Kind::Avx2 => Weights::Panels(PanelKind::Avx2, panels(weights, inputs)),
            Kind::Portable => Weights::Matrix(matrix(weights, inputs)),
        })
    }

    /// As [`PackedLinear::new`], with weights in int8, each output scaled by its largest weight. Rows of the input are
    /// then quantised as they come, each scaled by its largest value; a row with NaN or infinity becomes NaN.
    ///
    /// # Panics
    /// As [`PackedLinear::new`], or if there are more than 65,536 inputs.
    #[must_use]
    pub fn new_int8(tier: Tier, weights: &[f32], inputs: usize, bias: &[f32]) -> Self {
        Self::pack(tier, weights, inputs, bias, |tier, weights, inputs| {
            Weights::Int8(Int8Weights::new(tier, weights, inputs))
        })
    }

    fn pack(
        tier: Tier,
        weights: &[f32],
        inputs: usize,
        bias: &[f32],
        pack: impl FnOnce(Tier, &[f32], usize) -> Weights,
    ) -> Self {
        assert!(inputs > 0 && weights.len().is_multiple_of(inputs), "{} weights of {inputs}", weights.len());
        let outputs = weights.len() / inputs;
        assert!(bias.is_empty() || bias.len() == outputs, "bias of {} for {outputs} outputs", bias.len());
        let mut padded = Aligned::zeros(outputs.next_multiple_of(BLOCK));
        padded[..bias.len()].copy_from_slice(bias);
        Self { tier, inputs, outputs, weights: pack(tier, weights, inputs), bias: padded }
    }

    /// Computes `input · Wᵀ + b` and hands it to `output`. `team` is a [`Scratch`](crate::Scratch) or a [`Team`].
    ///
    /// # Panics
    /// If `input` is not as wide as there are inputs, `output` has not the rows of `input` and the width of the
    /// outputs, or one of them was made for another tier.
    pub fn apply<'t>(&self, input: &Activations, output: Output<'_>, team: impl Into<Team<'t>>) {
        let mut team = team.into();
        assert_eq!(input.width(), self.inputs, "width of the input");
        assert!(
            input.tier() == self.tier && team.scratch().tier() == self.tier,
            "input and scratch are of the tier of the weights"
        );
        linear::apply(self, input, output.into_sink(input.rows(), self.outputs, self.tier), &mut team);
    }

    /// How many numbers a row of the input has.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of the packed weights and the bias.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Tiles(weights) => size_of_val::<[u16]>(weights),
            #[cfg(target_arch = "x86_64")]
            Weights::Whole(weights) => weights.bytes(),
            Weights::Panels(_, weights) | Weights::Matrix(weights) => size_of_val::<[f32]>(weights),
            Weights::Int8(weights) => weights.bytes(),
        };
        weights + size_of_val::<[f32]>(&self.bias)
    }

    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }
}

/// Numbers of bf16 in a tile.
pub(crate) const TILE: usize = 512;

/// Weights `(outputs, inputs)` in tiles; `to` makes sixteen bits of the weight of an output.
pub(crate) fn tiles(weights: &[f32], inputs: usize, to: impl Fn(usize, f32) -> u16) -> Aligned<u16> {
    let outputs = weights.len() / inputs;
    let steps = inputs.div_ceil(BLOCK);
    let mut packed = Aligned::weights(outputs.div_ceil(BLOCK) * steps * 2 * TILE);
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        let (panel, tile, column) = (output / BLOCK, output % BLOCK / 16, output % 16);
        for (step, values) in row.chunks(BLOCK).enumerate() {
            let tile = &mut packed[((panel * steps + step) * 2 + tile) * TILE..][..TILE];
            for (input, value) in values.iter().enumerate() {
                tile[input / 2 * BLOCK + column * 2 + input % 2] = to(output, *value);
            }
        }
    }
    packed
}

fn panels(weights: &[f32], inputs: usize) -> Aligned<f32> {
    let outputs = weights.len() / inputs;
    let mut packed = Aligned::weights(outputs.div_ceil(BLOCK) * inputs * BLOCK);
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        let panel = &mut packed[output / BLOCK * inputs * BLOCK..][..inputs * BLOCK];
        for (input, value) in row.iter().enumerate() {
            panel[input * BLOCK + output % BLOCK] = *value;
        }
    }
    packed
}

fn matrix(weights: &[f32], inputs: usize) -> Aligned<f32> {
    let padded = (weights.len() / inputs).next_multiple_of(BLOCK);
    let mut packed = Aligned::weights(inputs * padded);
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        for (input, value) in row.iter().enumerate() {
            packed[input * padded + output] = *value;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_holds_pairs_of_inputs_side_by_side() {
        let weights: Vec<f32> = (0_u8..17 * 3).map(f32::from).collect();
        let packed = tiles(&weights, 3, |_, weight| to_bf16(weight));
        assert_eq!(packed.len(), 2 * TILE);
        // Output 1: inputs 0 and 1 in the first line, input 2 and a zero in the second.
        assert_eq!(packed[2..4], [to_bf16(3.0), to_bf16(4.0)]);
        assert_eq!(packed[BLOCK + 2..BLOCK + 4], [to_bf16(5.0), 0]);
        // Output 16 begins the second tile.
        assert_eq!(packed[TILE], to_bf16(48.0));
    }

    #[test]
    fn panel_holds_the_outputs_of_an_input_side_by_side() {
        let packed = panels(&[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!(packed[..2], [1.0, 3.0]);
        assert_eq!(packed[BLOCK..BLOCK + 2], [2.0, 4.0]);
        assert_eq!(packed.len(), 2 * BLOCK);
    }

    #[test]
    #[should_panic(expected = "bias of 1 for 2 outputs")]
    fn bias_of_another_length_panics() {
        drop(PackedLinear::new(Tier::detect(), &[1.0, 2.0, 3.0, 4.0], 2, &[0.0]));
    }
}

//! Weights of a linear layer as rows of f32, on their way from the file to the kernels' order.

use kernels::{PackedLinear, Tier};

use crate::config::Presence;
use crate::error::LoadError;
use crate::weights::Weights;

/// How weights are packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) tier: Tier,
    pub(crate) weights: WeightType,
}

/// The numbers that weights are packed as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightType {
    /// Those of the tier.
    Float,
    Int8,
}

/// A linear layer `(outputs, inputs)`.
pub(super) struct Stacked {
    inputs: usize,
    rows: Vec<f32>,
    /// `(outputs)`; empty where there is none.
    bias: Vec<f32>,
}

impl Stacked {
    /// Reads the tensors `names`, which share `outputs` evenly, one under another.
    pub(super) fn read(
        weights: &Weights,
        names: &[String],
        (outputs, inputs): (usize, usize),
        bias: Presence,
    ) -> Result<Self, LoadError> {
        let each = outputs / names.len();
        let mut stacked = Self { inputs, rows: Vec::with_capacity(outputs * inputs), bias: Vec::new() };
        for name in names {
            stacked.rows.append(&mut weights.values(&format!("{name}.weight"), &[each, inputs])?);
            if bias == Presence::Present {
                stacked.bias.append(&mut weights.values(&format!("{name}.bias"), &[each])?);
            }
        }
        Ok(stacked)
    }

    /// Takes the outputs in this order; outputs that are none become zero.
    pub(super) fn with_outputs(self, order: &[Option<usize>]) -> Self {
        let Self { inputs, rows, bias } = self;
        let mut ordered = vec![0.0; order.len() * inputs];
        for (to, from) in ordered.chunks_exact_mut(inputs).zip(order) {
            if let Some(from) = from {
                to.copy_from_slice(&rows[from * inputs..][..inputs]);
            }
        }
        let of = |from: &Option<usize>| from.map_or(0.0, |from| bias[from]);
        let bias = if bias.is_empty() { Vec::new() } else { order.iter().map(of).collect() };
        Self { inputs, rows: ordered, bias }
    }

    /// Takes the inputs in this order; inputs that are none do not count.
    pub(super) fn with_inputs(self, order: &[Option<usize>]) -> Self {
        let Self { inputs, rows, bias } = self;
        let of = |row: &[f32], from: &Option<usize>| from.map_or(0.0, |from| row[from]);
        let ordered = rows.chunks_exact(inputs).flat_map(|row| order.iter().map(move |from| of(row, from)));
        Self { inputs: order.len(), rows: ordered.collect(), bias }
    }

    pub(super) fn pack(self, packing: Packing) -> PackedLinear {
        let pack = match packing.weights {
            WeightType::Float => PackedLinear::new,
            WeightType::Int8 => PackedLinear::new_int8,
        };
        pack(packing.tier, &self.rows, self.inputs, &self.bias)
    }
}

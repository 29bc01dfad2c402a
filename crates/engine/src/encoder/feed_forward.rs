//! The feed-forward block: raised to more columns, through a function, and back.

use kernels::{Gate, Output, PackedLinear, Team};

use super::buffers::Buffers;
use super::stacked::{Packing, Stacked};
use crate::config::{self, Shape};
use crate::error::LoadError;
use crate::weights::Weights;

/// Weights of one layer.
pub(super) struct FeedForward {
    up: PackedLinear,
    /// What gates one half of the columns by the other; GELU of all where there is none.
    gate: Option<Gate>,
    down: PackedLinear,
}

impl FeedForward {
    pub(super) fn load(
        shape: &Shape,
        weights: &Weights,
        packing: Packing,
        index: usize,
    ) -> Result<Self, LoadError> {
        let (names, hidden, intermediate) = (shape.names, shape.hidden, shape.intermediate);
        let name = |part: &&str| format!("{}{index}.{part}", names.layer);
        let (gate, order) = match shape.feed_forward {
            config::FeedForward::Gelu => (None, in_order(intermediate)),
            config::FeedForward::SwiGlu => (Some(Gate::Silu), Gate::order(intermediate)),
            config::FeedForward::GeGlu => (Some(Gate::Gelu), swapped(Gate::order(intermediate))),
        };
        let up: Vec<String> = names.up.iter().map(name).collect();
        let up = Stacked::read(weights, &up, (order.len(), hidden), shape.biases.up)?;
        let order: Vec<Option<usize>> = order.into_iter().map(Some).collect();
        let down = [name(&names.down)];
        let down = Stacked::read(weights, &down, (hidden, intermediate), shape.biases.down)?;
        Ok(Self { up: up.with_outputs(&order).pack(packing), gate, down: down.pack(packing) })
    }

    /// Adds the result to the residual stream.
    pub(super) fn forward(&self, buffers: &mut Buffers, team: &mut Team<'_>) {
        let Buffers { rows, normed, raised, .. } = buffers;
        let output = match self.gate {
            None => Output::Gelu(raised),
            Some(gate) => Output::Gated(raised, gate),
        };
        self.up.apply(normed, output, &mut *team);
        self.down.apply(raised, Output::AddTo(rows), team);
    }
}

fn in_order(outputs: usize) -> Vec<usize> {
    (0..outputs).collect()
}

/// The same order of two halves where the second is stored first.
fn swapped(order: Vec<usize>) -> Vec<usize> {
    let half = order.len() / 2;
    order.into_iter().map(|row| if row < half { row + half } else { row - half }).collect()
}

//! A layer norm and where it stands.

use kernels::{Activations, LayerNorm, Team};

use crate::config::{NormPlace, Presence, Shape};
use crate::error::LoadError;
use crate::weights::Weights;

/// A norm over the rows of the residual stream.
pub(super) struct Norm {
    norm: LayerNorm,
    place: NormPlace,
}

impl Norm {
    /// Older checkpoints call the parameters of a norm `gamma` and `beta`.
    pub(super) fn load(
        shape: &Shape,
        weights: &Weights,
        name: &str,
        place: NormPlace,
    ) -> Result<Self, LoadError> {
        let row = |newer: &str, older: &str| {
            weights.row_of_either(&format!("{name}.{newer}"), &format!("{name}.{older}"), shape.hidden)
        };
        let shift = match shape.biases.norm {
            Presence::Present => row("bias", "beta")?,
            Presence::Absent => vec![0.0; shape.hidden],
        };
        Ok(Self { norm: LayerNorm::new(&row("weight", "gamma")?, &shift, shape.norm_epsilon), place })
    }

    /// Hands the normed rows to the next block; after a block they are the residual stream from then on.
    pub(super) fn apply(&self, rows: &mut [f32], normed: &mut Activations, team: &mut Team<'_>) {
        match self.place {
            NormPlace::AfterBlock => self.norm.apply(rows, normed, team),
            NormPlace::BeforeBlock => self.norm.copy(rows, normed, team),
        }
    }
}

//! What happens to the sums of a product while they are in the L1 cache.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod gate;
pub(crate) mod portable;
mod rotate;

use crate::activations::{Activations, BLOCK};
use crate::tier::Tier;

pub use gate::Gate;
pub use rotate::Rotation;

/// Where `x · Wᵀ + b` goes. Shapes are `(rows, outputs)`.
#[derive(Debug)]
pub enum Output<'a> {
    /// Into f32 rows.
    Rows(&'a mut [f32]),
    /// Added to f32 rows: the residual stream.
    AddTo(&'a mut [f32]),
    /// Into the input of the next kernel.
    Activations(&'a mut Activations),
    /// Through the exact GELU, `v · Φ(v)`, into the input of the next kernel.
    Gelu(&'a mut Activations),
    /// Into the input of the next kernel, half as wide: of each 32 columns the first sixteen, times the activation of
    /// the others. [`Gate::order`] says how weights are stored for it.
    Gated(&'a mut Activations, Gate),
    /// Into the input of attention, queries and keys turned by their positions.
    Rotated(&'a mut Activations, Rotation<'a>),
}

/// An output whose shape has been checked.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) output: Output<'a>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// Where a block of sums belongs: rows `row ..`, of panel `panel`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) panel: usize,
}

impl Sink<'_> {
    /// How many columns of the panel there are: 32 but for the last.
    pub(crate) fn columns(&self, panel: usize) -> usize {
        BLOCK.min(self.width - panel * BLOCK)
    }
}

impl<'a> Output<'a> {
    /// Gives activations their shape.
    ///
    /// # Panics
    /// If the output is of another shape or tier.
    pub(crate) fn into_sink(self, rows: usize, width: usize, tier: Tier) -> Sink<'a> {
        let output = match self {
            Self::Rows(values) | Self::AddTo(values) if values.len() != rows * width => {
                panic!("output of {} values for {rows} rows of {width}", values.len())
            }
            Self::Activations(to) => Self::Activations(shaped(to, rows, width, tier)),
            Self::Gelu(to) => Self::Gelu(shaped(to, rows, width, tier)),
            Self::Gated(to, gate) => {
                assert!(width.is_multiple_of(BLOCK), "{width} gated and gating columns are no whole panels");
                Self::Gated(shaped(to, rows, width / 2, tier), gate)
            }
            Self::Rotated(to, rotation) => {
                rotation.assert_fits(rows, width);
                Self::Rotated(shaped(to, rows, width, tier), rotation)
            }
            checked @ (Self::Rows(_) | Self::AddTo(_)) => checked,
        };
        Sink { output, rows, width }
    }
}

fn shaped(to: &mut Activations, rows: usize, width: usize, tier: Tier) -> &mut Activations {
    assert!(to.tier() == tier, "activations of {} for weights of {}", to.tier().name(), tier.name());
    to.reshape(rows, width);
    to
}

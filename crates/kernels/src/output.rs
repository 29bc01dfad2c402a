//! What happens to the sums of a product while they are in the L1 cache.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod gate;
pub(crate) mod portable;
mod rotate;

use crate::activations::{Activations, BLOCK, Layout};
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

/// Where sums go, and what becomes of them: an [`Output`] whose shape has been checked. Several threads may write to it,
/// each its own panels and rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub(crate) ending: Ending<'a>,
    start: *mut u8,
    /// Bytes from row to row.
    row: usize,
    /// Bytes from one panel to the next, and from one pair of panels to the next: two gated panels share a line.
    panel: usize,
    pair: usize,
    rows: usize,
    /// Columns of all panels of sums.
    width: usize,
}

/// What becomes of sums, as in [`Output`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending<'a> {
    Rows,
    AddTo,
    Activations,
    Gelu,
    Gated(Gate),
    Rotated(Rotation<'a>),
}

// SAFETY: a sink is a borrowed output, and whoever writes to it says that nobody else writes to the same place.
unsafe impl Send for Sink<'_> {}
// SAFETY: as above.
unsafe impl Sync for Sink<'_> {}

/// Where a block of sums belongs: rows `row ..`, of panel `panel`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) panel: usize,
}

impl<'a> Sink<'a> {
    /// How many columns of the panel there are: 32 but for the last.
    fn columns(&self, panel: usize) -> usize {
        BLOCK.min(self.width - panel * BLOCK)
    }

    /// Where the first row of a place begins.
    ///
    /// # Panics
    /// If the place is not within the output.
    fn at(&self, place: Place) -> *mut u8 {
        assert!(place.row + place.rows <= self.rows && place.panel * BLOCK < self.width);
        let panel = place.panel / 2 * self.pair + place.panel % 2 * self.panel;
        self.start.wrapping_add(panel + place.row * self.row)
    }

    #[cfg(target_arch = "x86_64")]
    fn rotation(&self) -> Option<Rotation<'a>> {
        match self.ending {
            Ending::Rotated(rotation) => Some(rotation),
            Ending::Rows | Ending::AddTo | Ending::Activations | Ending::Gelu | Ending::Gated(_) => None,
        }
    }
}

impl<'a> Output<'a> {
    /// Gives activations their shape.
    ///
    /// # Panics
    /// If the output is of another shape or tier.
    pub(crate) fn into_sink(self, rows: usize, width: usize, tier: Tier) -> Sink<'a> {
        match self {
            Self::Rows(to) => into_rows(to, Ending::Rows, [rows, width]),
            Self::AddTo(to) => into_rows(to, Ending::AddTo, [rows, width]),
            Self::Activations(to) => into_activations(to, Ending::Activations, [rows, width], tier),
            Self::Gelu(to) => into_activations(to, Ending::Gelu, [rows, width], tier),
            Self::Gated(to, gate) => {
                assert!(width.is_multiple_of(BLOCK), "{width} gated and gating columns are no whole panels");
                into_activations(to, Ending::Gated(gate), [rows, width], tier)
            }
            Self::Rotated(to, rotation) => {
                rotation.assert_fits(rows, width);
                into_activations(to, Ending::Rotated(rotation), [rows, width], tier)
            }
        }
    }
}

fn into_rows<'a>(to: &'a mut [f32], ending: Ending<'a>, [rows, width]: [usize; 2]) -> Sink<'a> {
    assert!(to.len() == rows * width, "output of {} values for {rows} rows of {width}", to.len());
    let (row, panel, pair) = (4 * width, 4 * BLOCK, 8 * BLOCK);
    Sink { ending, start: to.as_mut_ptr().cast(), row, panel, pair, rows, width }
}

fn into_activations<'a>(
    to: &'a mut Activations,
    ending: Ending<'a>,
    [rows, width]: [usize; 2],
    tier: Tier,
) -> Sink<'a> {
    assert!(to.tier() == tier, "activations of {} for weights of {}", to.tier().name(), tier.name());
    let is_gated = matches!(ending, Ending::Gated(_));
    to.reshape(rows, if is_gated { width / 2 } else { width });
    let (start, row, panel, pair) = match &mut to.layout {
        Layout::Rows(values) if is_gated => (values.as_mut_ptr().cast(), 2 * width, 2 * BLOCK, 4 * BLOCK),
        Layout::Rows(values) => (values.as_mut_ptr().cast(), 4 * width, 4 * BLOCK, 8 * BLOCK),
        Layout::Blocks { values, stride } => {
            let block = 2 * BLOCK * *stride;
            let (panel, pair) = if is_gated { (BLOCK, block) } else { (block, 2 * block) };
            (values.as_mut_ptr().cast(), 2 * BLOCK, panel, pair)
        }
    };
    Sink { ending, start, row, panel, pair, rows, width }
}

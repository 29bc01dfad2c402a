//! `x · Wᵀ`, block by block.
//!
//! ```text
//!  for each panel of 32 outputs      (read from memory once, then in the L1 cache)
//!    for each block of rows          (in the L2 cache)
//!      sums (rows, 32) ─▶ sink       (in the L1 cache)
//! ```

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod bf16;
pub(crate) mod int8;
pub(crate) mod portable;
mod shares;

use crate::activations::{Activations, BLOCK, Layout};
use crate::crew::Team;
use crate::output::Sink;
#[cfg(target_arch = "x86_64")]
use crate::output::{self, Place};
use crate::packed::{PackedLinear, Weights};
use crate::scratch::Scratch;
use crate::tier::Kind;
#[cfg(target_arch = "x86_64")]
use crate::tier::PanelKind;

pub(crate) use shares::{Share, Shares};

/// Computes the product, its shapes checked by the caller.
pub(crate) fn apply(linear: &PackedLinear, input: &Activations, sink: Sink<'_>, team: &mut Team<'_>) {
    let panels = linear.bias.len() / BLOCK;
    let shares = Shares::new(input.rows(), panels, team.members(), rows_at_once(linear.tier().kind()));
    team.each(shares.count(), |index, scratch| {
        // SAFETY: no two shares have a row and a panel in common.
        unsafe { apply_share(linear, input, (sink, shares.get(index)), scratch) }
    });
}

/// # Safety
/// Nobody else computes this share.
unsafe fn apply_share(
    linear: &PackedLinear,
    input: &Activations,
    (sink, share): (Sink<'_>, Share),
    scratch: &mut Scratch,
) {
    // SAFETY: as the caller says of the share. Weights in tiles are made for a tier with AMX bf16 or with bf16 in 512-bit
    // registers, those in panels for one with AVX-512 or AVX2, and a tier proves that the CPU has it.
    unsafe {
        match (&linear.weights, &input.layout) {
            #[cfg(target_arch = "x86_64")]
            (Weights::Tiles(weights), Layout::Blocks { values, stride }) => {
                let steps = linear.inputs().div_ceil(BLOCK);
                if linear.tier().kind() == Kind::AmxBf16 {
                    let left = (&values[..], *stride);
                    let product = amx::Product::new(left, (weights, &linear.bias), steps, &share);
                    amx::apply(product, sink, &mut scratch.sums);
                } else {
                    let right = (&weights[..], &linear.bias[..]);
                    bf16::apply((values, *stride), right, steps, (sink, share), &mut scratch.sums);
                }
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Panels(kind, weights), Layout::Rows(values)) => {
                apply_panels(linear, (*kind, weights), values, (sink, share), &mut scratch.sums);
            }
            (Weights::Matrix(weights), Layout::Rows(values)) => {
                portable::apply(linear, weights, values, (sink, share), &mut scratch.sums);
            }
            (Weights::Int8(weights), _) => int8::apply(linear, weights, input, (sink, share), scratch),
            _ => unreachable!("the tier of the input was checked"),
        }
    }
}

/// Rows that a kernel of the tier multiplies at once.
fn rows_at_once(kind: Kind) -> usize {
    match kind {
        Kind::AmxBf16 | Kind::Portable => BLOCK,
        Kind::Avx512Bf16 | Kind::Avx512 | Kind::Avx2 => ROWS,
    }
}

/// How a product with panels is cut into pieces.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Rows whose sums are finished at once.
    rows: usize,
    /// Inputs that all these rows are multiplied with before the next ones are read.
    inputs: usize,
}

#[cfg(target_arch = "x86_64")]
impl Cut {
    /// Twelve rows of 512-bit registers read a line of weights so seldom that it may come from the L2 cache; three of 256
    /// bits read it four times as often, from a stretch that stays in the L1 cache.
    fn of(kind: PanelKind, inputs: usize) -> Self {
        match kind {
            PanelKind::Avx512 => Self { rows: ROWS, inputs },
            PanelKind::Avx2 => Self { rows: 96, inputs: 128 },
        }
    }
}

/// # Safety
/// The CPU has what `kind` says, and nobody else computes this share.
#[cfg(target_arch = "x86_64")]
unsafe fn apply_panels(
    linear: &PackedLinear,
    (kind, weights): (PanelKind, &[f32]),
    rows: &[f32],
    (sink, share): (Sink<'_>, Share),
    sums: &mut [f32],
) {
    let depth = linear.inputs();
    let cut = Cut::of(kind, depth);
    for panel in share.panels {
        let weights = &weights[panel * depth * BLOCK..][..depth * BLOCK];
        for row in share.rows.clone().step_by(cut.rows) {
            let place = Place { row, rows: cut.rows.min(share.rows.end - row), panel };
            let mut begin = Begin::AtZero;
            for (stretch, weights) in weights.chunks(cut.inputs * BLOCK).enumerate() {
                let values = &rows[row * depth + stretch * cut.inputs..];
                multiply(
                    kind,
                    Left { values, stride: depth, rows: place.rows },
                    weights,
                    (sums, BLOCK),
                    begin,
                );
                begin = Begin::AtSums;
            }
            // SAFETY: as the caller says.
            unsafe {
                match kind {
                    PanelKind::Avx512 => {
                        output::avx512::finish_rows(sink, place, sums, &linear.bias, 0..place.rows);
                    }
                    PanelKind::Avx2 => {
                        output::portable::finish_avx2(sink, place, (sums, BLOCK), &linear.bias);
                    }
                }
            }
        }
    }
}

/// Rows that share a stretch of weights while it is in the L1 cache; their inputs stay in the L2 cache. As many sums
/// are kept where a product has several stretches.
pub(crate) const ROWS_TOGETHER: usize = 256;

/// The same in tiles where a product has several stretches.
pub(crate) const TILE_ROWS_TOGETHER_MAX: usize = 512;

/// How far ahead of a product of few rows its weights are fetched, in bytes.
#[cfg(target_arch = "x86_64")]
const AHEAD_BYTES: usize = 16384;

/// Fetches a line of the weights that come after `weights`. Few rows wait for memory and for nothing else, and the order
/// of tiles is none that a CPU recognises; many rows read the weights of a panel again and again.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch_ahead<T>(weights: *const T) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a prefetch of any address is allowed and reads nothing that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_byte_add(AHEAD_BYTES).cast()) };
}

/// Rows that are multiplied at once in 512-bit registers, and a multiple of those in 256-bit ones.
pub(crate) const ROWS: usize = 12;

/// Some rows, `stride` values from one to the next.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// What a product is added to.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    AtZero,
    /// What stands where the sums go: those of the inputs before.
    AtSums,
}

/// `left` times a panel `(depth, 32)`, into sums `(rows, 32)` whose rows are as far apart as is said beside them.
///
/// # Panics
/// If a slice is too short for the shape.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiply(
    kind: PanelKind,
    left: Left<'_>,
    panel: &[f32],
    (sums, stride): (&mut [f32], usize),
    begin: Begin,
) {
    let depth = panel.len() / BLOCK;
    let last = left.rows - 1;
    assert!(depth <= left.stride && last * left.stride + depth <= left.values.len());
    assert!(last * stride + BLOCK <= sums.len());
    // SAFETY: the kind comes out of a tier, which proves that the CPU has it; the shapes are checked above.
    unsafe {
        match kind {
            PanelKind::Avx512 => avx512::multiply(left, panel, sums, stride, begin),
            PanelKind::Avx2 => avx2::multiply(left, panel, sums, stride, begin),
        }
    }
}

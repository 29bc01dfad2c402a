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
#[cfg(target_arch = "x86_64")]
pub(crate) mod between;
#[cfg(target_arch = "x86_64")]
pub(crate) mod factors;
pub(crate) mod int8;
#[cfg(target_arch = "x86_64")]
mod pairs;
pub(crate) mod portable;
mod shares;
#[cfg(target_arch = "x86_64")]
pub(crate) mod whole;

use crate::activations::{Activations, BLOCK, Layout};
#[cfg(target_arch = "x86_64")]
use crate::aligned::bytes;
#[cfg(target_arch = "x86_64")]
use crate::convert::avx512::Instruction;
use crate::crew::Team;
use crate::output::Sink;
#[cfg(target_arch = "x86_64")]
use crate::output::avx512::kinds::{for_lines, for_rows};
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
    // registers, whole ones for one with VNNI or AVX2, those in panels for one with AVX-512 or AVX2, and a tier proves that
    // the CPU has it.
    unsafe {
        match (&linear.weights, &input.layout) {
            #[cfg(target_arch = "x86_64")]
            (Weights::Tiles(weights), Layout::Blocks { values, stride }) => {
                let steps = linear.inputs().div_ceil(BLOCK);
                if linear.tier().kind() == Kind::AmxBf16 {
                    let left = (&bytes(values)[share.rows.start * CACHE_LINE_BYTES..], *stride);
                    let weights = (bytes(weights), &linear.bias[..]);
                    let product = amx::Product::new(factors::Bf16, left, weights, steps, &share);
                    amx::apply(product, sink, &mut scratch.sums);
                } else {
                    let (left, stride, bias) = (&values[share.rows.start * BLOCK..], *stride, &linear.bias);
                    let (factors, sums) = (factors::Bf16, &mut scratch.sums);
                    let product =
                        bf16::Product { factors, left, stride, weights, bias, steps, sink, share, sums };
                    for_lines::<Instruction>(sink.ending, product);
                }
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Whole(weights), Layout::Blocks { .. }) => {
                whole::apply(linear, weights, input, (sink, share), scratch);
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Whole(weights), Layout::Rows(_)) => {
                whole::avx2::apply(linear, weights, input, (sink, share), scratch);
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Panels(PanelKind::Avx512, weights), Layout::Rows(left)) => {
                let (depth, bias, sums) = (linear.inputs(), &linear.bias, &mut scratch.sums);
                let product = avx512::Product { left, depth, weights, bias, sink, share, sums };
                for_rows(sink.ending, product);
            }
            #[cfg(target_arch = "x86_64")]
            (Weights::Panels(PanelKind::Avx2, weights), Layout::Rows(values)) => {
                avx2::apply(linear, weights, values, (sink, share), &mut scratch.sums);
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
        Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 => ROWS,
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
    fetch(weights.wrapping_byte_add(AHEAD_BYTES), 1);
}

/// A line of the L1 and L2 caches of x86.
#[cfg(target_arch = "x86_64")]
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// Fetches `count` lines into the L2 cache. Weights of a layer do not stay there from one pass to the next.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn fetch<T>(from: *const T, count: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for line in 0..count {
        // SAFETY: a prefetch of any address is allowed and reads nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_byte_add(line * CACHE_LINE_BYTES).cast()) };
    }
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

#[cfg(target_arch = "x86_64")]
impl Left<'_> {
    /// # Panics
    /// If there are not `depth` values of every row.
    fn assert_has(self, depth: usize) {
        let last = self.rows - 1;
        assert!(depth <= self.stride && last * self.stride + depth <= self.values.len());
    }
}

/// `left` times a panel `(depth, 32)`, into sums `(rows, 32)` whose rows are as far apart as is said beside them.
///
/// # Panics
/// If a slice is too short for the shape.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiply(kind: PanelKind, left: Left<'_>, panel: &[f32], (sums, stride): (&mut [f32], usize)) {
    left.assert_has(panel.len() / BLOCK);
    assert!((left.rows - 1) * stride + BLOCK <= sums.len());
    // SAFETY: the kind comes out of a tier, which proves that the CPU has it; the shapes are checked above.
    unsafe {
        match kind {
            PanelKind::Avx512 => avx512::multiply(left, panel, sums, stride),
            PanelKind::Avx2 => avx2::multiply(left, panel, sums, stride),
        }
    }
}

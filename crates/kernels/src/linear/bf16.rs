//! The product of bf16 in 512-bit registers: twelve rows by 32 columns are 24 sums, two registers hold a pair of inputs
//! of the weights.
//!
//! Layouts are those of tiles, whose lines are what one instruction of this kind takes. The instruction for pairs of whole
//! numbers takes the same, and has the same loop.

use std::arch::x86_64::*;

use super::between::{Ahead, Between};
use super::factors::{self, Factors, Scaled};
use super::pairs::{Bf16, Exact, Pairs, ToFloats, Whole};
use super::{ROWS, Share, fetch_ahead};
use crate::activations::BLOCK;
use crate::output::avx512::kinds::Work;
use crate::output::avx512::{Finish, Unfinished};
use crate::output::{Place, Sink};
use crate::packed::TILE;

/// Products of more inputs finish a block before the next begins: what a block reads then fills the L1 cache, and what is
/// read and written beside it is in its way.
const INPUTS_BESIDE_MAX: usize = 512;

/// Rows of pairs: each a line at every step of 32 inputs, `stride` lines from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(crate) values: &'a [u16],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// A share of one linear layer: rows in blocks of `stride` lines, from the first of the share on, for panels of `steps`
/// steps of 32 inputs.
#[derive(Debug)]
pub(super) struct Product<'a, F> {
    pub(super) factors: F,
    pub(super) left: &'a [u16],
    pub(super) stride: usize,
    pub(super) weights: &'a [u16],
    pub(super) bias: &'a [f32],
    pub(super) steps: usize,
    pub(super) sink: Sink<'a>,
    pub(super) share: Share,
    /// Room for a block.
    pub(super) sums: &'a mut [f32],
}

/// For a CPU with these features; nobody else computes this share.
impl Work for Product<'_, factors::Bf16> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn with<E: Finish>(self) {
        // SAFETY: as the caller says.
        unsafe { self.run::<Bf16, E>() };
    }
}

/// For a CPU with these features; nobody else computes this share.
impl Work for Product<'_, Scaled<'_>> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vnni")]
    unsafe fn with<E: Finish>(self) {
        // SAFETY: as the caller says.
        unsafe { self.run::<Whole<Exact>, E>() };
    }
}

impl<F: Factors> Product<'_, F> {
    /// Compiled for the features of whoever calls it.
    ///
    /// # Safety
    /// The CPU has the instruction of these pairs, whose sums are of this kind, and nobody else computes this share.
    #[inline(always)]
    unsafe fn run<P: Pairs, E: Finish>(self) {
        let Self { factors, left, stride, steps, sink, share, .. } = self;
        let sums = self.sums[..ROWS * BLOCK].as_mut_ptr();
        // SAFETY: the CPU has AVX-512; there is room for the sums of a block, and those of the block before are finished when
        // these come.
        unsafe {
            let beside = Unfinished::<E, F::Sums>::none();
            let mut ahead = Ahead::new(beside, share.rows.len(), 2 * TILE / BLOCK);
            for panel in share.panels {
                let weights = &self.weights[panel * steps * 2 * TILE..][..steps * 2 * TILE];
                ahead.begin(weights);
                for row in (0..share.rows.len()).step_by(ROWS) {
                    let rows = ROWS.min(share.rows.len() - row);
                    let lines = Lines { values: &left[row * BLOCK..], stride, rows };
                    if steps * BLOCK > INPUTS_BESIDE_MAX {
                        ahead.rest();
                    }
                    multiply_beside::<P>(lines, weights, (sums, BLOCK), &mut ahead);
                    let place = Place { row: share.rows.start + row, rows, panel };
                    let to_finish = factors.sums(sums, row, panel, &self.bias[panel * BLOCK..]);
                    ahead.beside = Unfinished::new(sink, place, to_finish);
                }
            }
            ahead.rest();
        }
    }
}

/// `left` times a panel of bf16, into `sums` `(rows, 32)` whose rows are `sums_stride` apart.
///
/// # Panics
/// If a slice is too short for the shape.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) fn multiply(left: Lines<'_>, panel: &[u16], sums: &mut [f32], sums_stride: usize) {
    assert!(left.rows > 0 && (left.rows - 1) * sums_stride + BLOCK <= sums.len());
    // SAFETY: there is room for these rows.
    unsafe { multiply_beside::<Bf16>(left, panel, (sums.as_mut_ptr(), sums_stride), &mut ()) };
}

/// The same of int16. The numbers must be so small that no sum of products runs over.
///
/// # Panics
/// If a slice is too short for the shape.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) fn multiply_whole(left: Lines<'_>, panel: &[u16], sums: &mut [f32], sums_stride: usize) {
    assert!(left.rows > 0 && (left.rows - 1) * sums_stride + BLOCK <= sums.len());
    // SAFETY: there is room for these rows.
    unsafe { multiply_beside::<Whole<ToFloats>>(left, panel, (sums.as_mut_ptr(), sums_stride), &mut ()) };
}

/// The same, while something else is done, all of it before the first sums are written. Compiled for the features of
/// whoever calls it.
///
/// # Panics
/// If `left` is too short for the shape.
///
/// # Safety
/// The CPU has the instruction of these pairs. `sums` has room for those rows, as far apart as is said beside it, and
/// `between` may be done.
#[inline(always)]
unsafe fn multiply_beside<P: Pairs>(
    left: Lines<'_>,
    panel: &[u16],
    (sums, sums_stride): (*mut f32, usize),
    between: &mut impl Between,
) {
    let steps = panel.len() / (2 * TILE);
    let last = (steps - 1) * left.stride + left.rows;
    assert!(left.rows > 0 && left.rows <= ROWS && steps > 0 && last * BLOCK <= left.values.len());
    let mut row = 0;
    while row < left.rows {
        let from = left.values[row * BLOCK..].as_ptr();
        let to = sums.wrapping_add(row * sums_stride);
        let strides = [left.stride * BLOCK, sums_stride];
        // SAFETY: as many rows are left as each kernel is for, and the shapes are checked above.
        row += unsafe {
            match left.rows - row {
                ROWS.. => rows::<ROWS, P>(from, panel, to, strides, between),
                8.. => rows::<8, P>(from, panel, to, strides, between),
                4.. => rows::<4, P>(from, panel, to, strides, between),
                2.. => rows::<2, P>(from, panel, to, strides, between),
                _ => rows::<1, P>(from, panel, to, strides, between),
            }
        };
    }
}

/// `R` rows at once; says how many that were.
///
/// # Safety
/// The CPU has the instruction of these pairs. `R` lines lie at `left` for each step of the panel, `strides[0]` numbers from step to step; `sums` has room for `R`
/// rows of 32, `strides[1]` apart; `between` may be done.
#[inline(always)]
unsafe fn rows<const R: usize, P: Pairs>(
    left: *const u16,
    panel: &[u16],
    sums: *mut f32,
    strides: [usize; 2],
    between: &mut impl Between,
) -> usize {
    // SAFETY: as the caller says.
    let mut acc = [[unsafe { P::zeros() }; 2]; R];
    for (step, tiles) in panel.chunks_exact(2 * TILE).enumerate() {
        let left = left.wrapping_add(step * strides[0]);
        for pair in 0..BLOCK / 2 {
            let weights = tiles.as_ptr().wrapping_add(pair * BLOCK);
            if R < ROWS {
                fetch_ahead(weights);
                fetch_ahead(weights.wrapping_add(TILE));
            }
            // SAFETY: a tile has sixteen lines of 64 bytes, and the next tile follows; a row has a pair for each line.
            unsafe {
                let (low, high) = (load(weights), load(weights.wrapping_add(TILE)));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let pair = left.add(row * BLOCK + 2 * pair).cast::<i32>().read_unaligned();
                    let pair = _mm512_set1_epi32(pair);
                    acc[0] = P::multiply_add(acc[0], pair, low);
                    acc[1] = P::multiply_add(acc[1], pair, high);
                }
            }
        }
        // SAFETY: as the caller says.
        unsafe { between.part() };
    }
    // SAFETY: as the caller says.
    unsafe { between.rest() };
    for (row, acc) in acc.iter().enumerate() {
        // SAFETY: there is room for this row.
        unsafe {
            let to = sums.add(row * strides[1]);
            _mm512_storeu_ps(to, P::written(acc[0]));
            _mm512_storeu_ps(to.add(16), P::written(acc[1]));
        }
    }
    R
}

/// # Safety
/// 64 bytes lie at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn load(from: *const u16) -> __m512i {
    // SAFETY: as the caller says.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits, of which any pattern is a value.
    unsafe { std::mem::transmute(bits) }
}

//! The product in 512-bit registers: twelve rows by 32 columns are 24 sums, two registers hold a line of weights.
//!
//! Twelve rows read a line of weights so seldom that it may come from the L2 cache. A block is finished before the next
//! one begins: what finishes it takes the units that multiply, which leave no time between.

use std::arch::x86_64::*;

use super::between::{Ahead, Between};
use super::{CACHE_LINE_BYTES, Left, ROWS, Share, fetch_ahead};
use crate::activations::BLOCK;
use crate::output::avx512::kinds::Work;
use crate::output::avx512::sums::Floats;
use crate::output::avx512::{Finish, Unfinished};
use crate::output::{Place, Sink};

/// Inputs between two parts of what is done beside.
const STRETCH: usize = 8;
/// More rows fetch no weights ahead: a panel is one stretch of memory, and a CPU finds the next one itself while it has
/// that much time.
const AHEAD_ROWS_MAX: usize = 96;
/// Lines of the cache that the weights of an input are.
const LINES: usize = BLOCK * size_of::<f32>() / CACHE_LINE_BYTES;

/// A share of one linear layer of `depth` inputs.
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) left: &'a [f32],
    pub(super) depth: usize,
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) sink: Sink<'a>,
    pub(super) share: Share,
    /// Room for a block.
    pub(super) sums: &'a mut [f32],
}

/// For a CPU with these features; nobody else computes this share.
impl Work for Product<'_> {
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn with<F: Finish>(self) {
        let Self { left, depth, sink, share, sums, .. } = self;
        let sums = &mut sums[..ROWS * BLOCK];
        let mut ahead = match share.rows.len() {
            rows @ ..=AHEAD_ROWS_MAX => Ahead::new((), rows, STRETCH * LINES),
            _ => Ahead::nothing(()),
        };
        for panel in share.panels {
            let weights = &self.weights[panel * depth * BLOCK..][..depth * BLOCK];
            ahead.begin(weights);
            for row in share.rows.clone().step_by(ROWS) {
                let place = Place { row, rows: ROWS.min(share.rows.end - row), panel };
                let left = Left { values: &left[row * depth..], stride: depth, rows: place.rows };
                left.assert_has(depth);
                let bias = &self.bias[panel * BLOCK..];
                // SAFETY: the left side is as large as was just asserted, there is room for the sums of a block, and the caller says
                // that nobody else writes to this place.
                unsafe {
                    multiply_beside(left, weights, (sums, BLOCK), &mut ahead);
                    Unfinished::<F, _>::new(sink, place, Floats::new(sums.as_ptr(), bias)).rest();
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512; `left` has `rows` rows of `panel.len() / 32` values, and `sums` room for as many of 32.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn multiply(left: Left<'_>, panel: &[f32], sums: &mut [f32], stride: usize) {
    // SAFETY: as the caller says.
    unsafe { multiply_beside(left, panel, (sums, stride), &mut ()) };
}

/// The same, while something else is done.
///
/// # Safety
/// As of [`multiply`], and `between` may be done.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn multiply_beside(
    left: Left<'_>,
    panel: &[f32],
    (sums, stride): (&mut [f32], usize),
    between: &mut impl Between,
) {
    let mut row = 0;
    while row < left.rows {
        let from = left.values[row * left.stride..].as_ptr();
        let to = sums[row * stride..].as_mut_ptr();
        let strides = [left.stride, stride];
        // SAFETY: as many rows are left as each kernel is for.
        row += unsafe {
            match left.rows - row {
                ROWS.. => rows::<ROWS>(from, panel, to, strides, between),
                8.. => rows::<8>(from, panel, to, strides, between),
                4.. => rows::<4>(from, panel, to, strides, between),
                2.. => rows::<2>(from, panel, to, strides, between),
                _ => rows::<1>(from, panel, to, strides, between),
            }
        };
    }
}

/// `R` rows at once; says how many that were.
///
/// # Safety
/// From `left` on lie `R` rows of `panel.len() / 32` values, `strides[0]` apart; `sums` has room for `R` rows of 32,
/// `strides[1]` apart; `between` may be done.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows<const R: usize>(
    left: *const f32,
    panel: &[f32],
    sums: *mut f32,
    strides: [usize; 2],
    between: &mut impl Between,
) -> usize {
    let mut acc = [[_mm512_setzero_ps(); 2]; R];
    for (stretch, lines) in panel.chunks(STRETCH * BLOCK).enumerate() {
        let left = left.wrapping_add(stretch * STRETCH);
        for (input, line) in lines.chunks_exact(BLOCK).enumerate() {
            if R < ROWS {
                fetch_ahead(line.as_ptr());
                fetch_ahead(line[BLOCK / 2..].as_ptr());
            }
            // SAFETY: a line of the panel has 32 values, and the row has a value for each line.
            unsafe {
                let low = _mm512_loadu_ps(line.as_ptr());
                let high = _mm512_loadu_ps(line.as_ptr().add(16));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*left.add(row * strides[0] + input));
                    acc[0] = _mm512_fmadd_ps(value, low, acc[0]);
                    acc[1] = _mm512_fmadd_ps(value, high, acc[1]);
                }
            }
        }
        // SAFETY: as the caller says.
        unsafe { between.part() };
    }
    for (row, acc) in acc.iter().enumerate() {
        // SAFETY: there is room for this row.
        unsafe {
            let to = sums.add(row * strides[1]);
            _mm512_storeu_ps(to, acc[0]);
            _mm512_storeu_ps(to.add(16), acc[1]);
        }
    }
    R
}

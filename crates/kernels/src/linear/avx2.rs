//! The product in 256-bit registers: three rows by 32 columns are twelve sums; a line of weights passes through the others.
//!
//! Three rows read a line of weights four times as often as twelve of 512 bits do, so it comes from a stretch that stays
//! in the L1 cache.

use std::arch::x86_64::*;

use super::{Left, Share, fetch_ahead};
use crate::activations::BLOCK;
use crate::output::{Place, Sink, portable};
use crate::packed::PackedLinear;

/// Rows that are multiplied at once.
const ROWS: usize = 3;
/// Registers of a row.
const QUARTERS: usize = 4;
/// Numbers in a register.
const LANES: usize = BLOCK / QUARTERS;

/// Rows whose sums are finished at once.
const ROWS_TOGETHER: usize = 96;
/// Inputs that all these rows are multiplied with before the next ones are read.
const STRETCH: usize = 128;

/// What a product is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    AtZero,
    /// What stands where the sums go: those of the inputs before.
    AtSums,
}

/// A share of `linear`, whose panels are `weights`.
///
/// # Safety
/// The CPU has AVX2 and FMA, and nobody else computes this share.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn apply(
    linear: &PackedLinear,
    weights: &[f32],
    rows: &[f32],
    (sink, share): (Sink<'_>, Share),
    sums: &mut [f32],
) {
    let depth = linear.inputs();
    for panel in share.panels {
        let weights = &weights[panel * depth * BLOCK..][..depth * BLOCK];
        for row in share.rows.clone().step_by(ROWS_TOGETHER) {
            let place = Place { row, rows: ROWS_TOGETHER.min(share.rows.end - row), panel };
            let mut begin = Begin::AtZero;
            for (stretch, weights) in weights.chunks(STRETCH * BLOCK).enumerate() {
                let values = &rows[row * depth + stretch * STRETCH..];
                let left = Left { values, stride: depth, rows: place.rows };
                left.assert_has(weights.len() / BLOCK);
                // SAFETY: the left side is as large as was just asserted; there are sums of as many rows as go together.
                unsafe { multiply_onto(left, weights, (&mut sums[..place.rows * BLOCK], BLOCK), begin) };
                begin = Begin::AtSums;
            }
            // SAFETY: as the caller says.
            unsafe { portable::finish_avx2(sink, place, (sums, BLOCK), &linear.bias) };
        }
    }
}

/// # Safety
/// The CPU has AVX2 and FMA; `left` has `rows` rows of `panel.len() / 32` values, and `sums` room for as many of 32.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn multiply(left: Left<'_>, panel: &[f32], sums: &mut [f32], stride: usize) {
    // SAFETY: as the caller says.
    unsafe { multiply_onto(left, panel, (sums, stride), Begin::AtZero) };
}

/// # Safety
/// As of [`multiply`].
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_onto(left: Left<'_>, panel: &[f32], (sums, stride): (&mut [f32], usize), begin: Begin) {
    let mut row = 0;
    while row < left.rows {
        let from = left.values[row * left.stride..].as_ptr();
        let to = sums[row * stride..].as_mut_ptr();
        let strides = [left.stride, stride];
        // SAFETY: as many rows are left as each kernel is for.
        row += unsafe {
            match left.rows - row {
                ROWS.. if row == 0 => rows::<ROWS, true>(from, panel, to, strides, begin),
                ROWS.. => rows::<ROWS, false>(from, panel, to, strides, begin),
                2 => rows::<2, true>(from, panel, to, strides, begin),
                _ => rows::<1, true>(from, panel, to, strides, begin),
            }
        };
    }
}

/// `R` rows at once; says how many that were. The `FIRST` ones fetch the stretch of weights that comes next.
///
/// # Safety
/// From `left` on lie `R` rows of `panel.len() / 32` values, `strides[0]` apart; `sums` has room for `R` rows of 32,
/// `strides[1]` apart.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize, const FIRST: bool>(
    left: *const f32,
    panel: &[f32],
    sums: *mut f32,
    strides: [usize; 2],
    begin: Begin,
) -> usize {
    let mut acc = [[_mm256_setzero_ps(); QUARTERS]; R];
    if begin == Begin::AtSums {
        for (row, acc) in acc.iter_mut().enumerate() {
            for (quarter, acc) in acc.iter_mut().enumerate() {
                // SAFETY: there are sums of this row.
                *acc = unsafe { _mm256_loadu_ps(sums.add(row * strides[1] + quarter * LANES)) };
            }
        }
    }
    for (input, line) in panel.chunks_exact(BLOCK).enumerate() {
        if FIRST {
            fetch_ahead(line.as_ptr());
            fetch_ahead(line[BLOCK / 2..].as_ptr());
        }
        let mut values = [_mm256_setzero_ps(); R];
        for (row, value) in values.iter_mut().enumerate() {
            // SAFETY: the row has a value for each line.
            *value = unsafe { _mm256_broadcast_ss(&*left.add(row * strides[0] + input)) };
        }
        for quarter in 0..QUARTERS {
            // SAFETY: a line of the panel has 32 values.
            let weights = unsafe { _mm256_loadu_ps(line.as_ptr().add(quarter * LANES)) };
            for (acc, value) in acc.iter_mut().zip(values) {
                acc[quarter] = _mm256_fmadd_ps(value, weights, acc[quarter]);
            }
        }
    }
    for (row, acc) in acc.iter().enumerate() {
        for (quarter, acc) in acc.iter().enumerate() {
            // SAFETY: there is room for this row.
            unsafe { _mm256_storeu_ps(sums.add(row * strides[1] + quarter * LANES), *acc) };
        }
    }
    R
}

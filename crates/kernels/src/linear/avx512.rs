//! The product in 512-bit registers: twelve rows by 32 columns are 24 sums, two registers hold a line of weights.

use std::arch::x86_64::*;

use super::{Begin, Left, ROWS, fetch_ahead};
use crate::activations::BLOCK;

/// # Safety
/// The CPU has AVX-512F; `left` has `rows` rows of `panel.len() / 32` values, and `sums` room for as many of 32.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn multiply(left: Left<'_>, panel: &[f32], sums: &mut [f32], stride: usize, begin: Begin) {
    let mut row = 0;
    while row < left.rows {
        let from = left.values[row * left.stride..].as_ptr();
        let to = sums[row * stride..].as_mut_ptr();
        let strides = [left.stride, stride];
        // SAFETY: as many rows are left as each kernel is for.
        row += unsafe {
            match left.rows - row {
                ROWS.. => rows::<ROWS>(from, panel, to, strides, begin),
                8.. => rows::<8>(from, panel, to, strides, begin),
                4.. => rows::<4>(from, panel, to, strides, begin),
                2.. => rows::<2>(from, panel, to, strides, begin),
                _ => rows::<1>(from, panel, to, strides, begin),
            }
        };
    }
}

/// `R` rows at once; says how many that were.
///
/// # Safety
/// From `left` on lie `R` rows of `panel.len() / 32` values, `strides[0]` apart; `sums` has room for `R` rows of 32,
/// `strides[1]` apart.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows<const R: usize>(
    left: *const f32,
    panel: &[f32],
    sums: *mut f32,
    strides: [usize; 2],
    begin: Begin,
) -> usize {
    let mut acc = [[_mm512_setzero_ps(); 2]; R];
    if begin == Begin::AtSums {
        for (row, acc) in acc.iter_mut().enumerate() {
            let from = sums.wrapping_add(row * strides[1]);
            // SAFETY: there are sums of this row.
            *acc = unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))] };
        }
    }
    for (input, line) in panel.chunks_exact(BLOCK).enumerate() {
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

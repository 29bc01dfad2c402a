//! Whole numbers in 512-bit registers: twelve rows by 32 columns are 24 sums, two registers hold four inputs of the
//! weights.

use std::arch::x86_64::*;

use super::{LINE, Left, ROWS, STEP, TILE};
use crate::activations::BLOCK;
use crate::linear::fetch_ahead;

/// Rows are raised by 128, which `begins` makes up for.
///
/// # Safety
/// The CPU has AVX-512F and VNNI; `left` has a line of each row for each step of `panel`, `begins` 32 numbers, and
/// `sums` room for as many rows of 32.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    let mut row = 0;
    while row < left.rows {
        let from = left.lines[row * LINE..].as_ptr();
        let to = sums[row * BLOCK..].as_mut_ptr();
        // SAFETY: as many rows are left as each kernel is for.
        row += unsafe {
            match left.rows - row {
                ROWS.. => rows::<ROWS>(from, left.stride, panel, begins, to),
                8.. => rows::<8>(from, left.stride, panel, begins, to),
                4.. => rows::<4>(from, left.stride, panel, begins, to),
                2.. => rows::<2>(from, left.stride, panel, begins, to),
                _ => rows::<1>(from, left.stride, panel, begins, to),
            }
        };
    }
}

/// `R` rows at once; says how many that were.
///
/// # Safety
/// From `left` on lie `R` lines for each step of `panel`, `stride` lines from step to step; `begins` are 32 numbers, and
/// `sums` has room for `R` rows of 32.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn rows<const R: usize>(
    left: *const u8,
    stride: usize,
    panel: &[i8],
    begins: &[i32],
    sums: *mut i32,
) -> usize {
    // SAFETY: there are 32 numbers.
    let begin = unsafe { [load(begins.as_ptr()), load(begins.as_ptr().wrapping_add(16))] };
    let mut acc = [begin; R];
    for (step, tiles) in panel.chunks_exact(STEP).enumerate() {
        let left = left.wrapping_add(step * stride * LINE);
        for line in 0..LINE / 4 {
            let weights = tiles.as_ptr().wrapping_add(line * LINE);
            if R < ROWS {
                fetch_ahead(weights);
                fetch_ahead(weights.wrapping_add(TILE));
            }
            // SAFETY: a tile has sixteen lines of 64 bytes, and the next tile follows; a row has four bytes for each line.
            unsafe {
                let (low, high) = (load(weights), load(weights.wrapping_add(TILE)));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let four = left.add(row * LINE + line * 4).cast::<i32>().read_unaligned();
                    let four = _mm512_set1_epi32(four);
                    acc[0] = _mm512_dpbusd_epi32(acc[0], four, low);
                    acc[1] = _mm512_dpbusd_epi32(acc[1], four, high);
                }
            }
        }
    }
    for (row, acc) in acc.iter().enumerate() {
        // SAFETY: there is room for this row.
        unsafe {
            _mm512_storeu_si512(sums.add(row * BLOCK).cast(), acc[0]);
            _mm512_storeu_si512(sums.add(row * BLOCK + 16).cast(), acc[1]);
        }
    }
    R
}

/// # Safety
/// 64 bytes lie at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<T>(from: *const T) -> __m512i {
    // SAFETY: as the caller says.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// Makes floats of the `whole` sums `(rows, 32)`, with the scales of 32 outputs and of the rows.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn to_floats(whole: &[i32], outputs: &[f32], rows: &[f32], floats: &mut [f32]) {
    let outputs = &outputs[..BLOCK];
    // SAFETY: there are 32 outputs.
    let outputs = unsafe { [_mm512_loadu_ps(outputs.as_ptr()), _mm512_loadu_ps(outputs.as_ptr().add(16))] };
    let lines = whole.chunks_exact(BLOCK).zip(floats.chunks_exact_mut(BLOCK));
    for ((whole, floats), row) in lines.zip(rows) {
        for (half, outputs) in outputs.iter().enumerate() {
            let factor = _mm512_mul_ps(*outputs, _mm512_set1_ps(*row));
            // SAFETY: both slices have 32 numbers.
            unsafe {
                let value = _mm512_cvtepi32_ps(load(whole.as_ptr().add(16 * half)));
                _mm512_storeu_ps(floats.as_mut_ptr().add(16 * half), _mm512_mul_ps(value, factor));
            }
        }
    }
}

//! Whole numbers in 256-bit registers with VNNI: six rows by sixteen outputs are twelve sums, two registers hold four inputs
//! of the weights.

use std::arch::x86_64::*;

use super::{LINE, Left, STEP, TILE};
use crate::activations::BLOCK;
use crate::linear::fetch_ahead;

/// Rows that are multiplied at once.
const ROWS: usize = 6;
/// Outputs that are: those of a tile.
const OUTPUTS: usize = 16;

/// Rows are raised by 128, which `begins` makes up for.
///
/// # Safety
/// The CPU has AVX2 and AVX-VNNI; `left` has a line of each row for each step of `panel`, `begins` are 32 numbers, and
/// `sums` has room for as many rows of 32.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    for (tile, begins) in begins.chunks_exact(OUTPUTS).enumerate() {
        let panel = &panel[tile * TILE..];
        let mut row = 0;
        while row < left.rows {
            let from = left.lines[row * LINE..].as_ptr();
            let to = sums[row * BLOCK + tile * OUTPUTS..].as_mut_ptr();
            // SAFETY: as many rows are left as each kernel is for.
            row += unsafe {
                match left.rows - row {
                    ROWS.. if row == 0 => rows::<ROWS, true>(from, left.stride, panel, begins, to),
                    ROWS.. => rows::<ROWS, false>(from, left.stride, panel, begins, to),
                    4.. => rows::<4, true>(from, left.stride, panel, begins, to),
                    2.. => rows::<2, true>(from, left.stride, panel, begins, to),
                    _ => rows::<1, true>(from, left.stride, panel, begins, to),
                }
            };
        }
    }
}

/// `R` rows at once, for the outputs of the tile with which `panel` begins; says how many rows that were. The
/// `FIRST` ones fetch weights ahead.
///
/// # Safety
/// From `left` on lie `R` lines for each step of `panel`, `stride` lines from step to step; `begins` are sixteen numbers,
/// and `sums` has room for sixteen of each row.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn rows<const R: usize, const FIRST: bool>(
    left: *const u8,
    stride: usize,
    panel: &[i8],
    begins: &[i32],
    sums: *mut i32,
) -> usize {
    // SAFETY: there are sixteen numbers.
    let begin = unsafe { [load(begins.as_ptr()), load(begins.as_ptr().wrapping_add(8))] };
    let mut acc = [begin; R];
    for (step, tile) in panel.chunks(STEP).enumerate() {
        let left = left.wrapping_add(step * stride * LINE);
        for line in 0..LINE / 4 {
            let weights = tile.as_ptr().wrapping_add(line * LINE);
            if FIRST {
                fetch_ahead(weights);
            }
            // SAFETY: a tile has sixteen lines of 64 bytes; a row has four bytes for each line.
            unsafe {
                let (low, high) = (load(weights), load(weights.wrapping_add(LINE / 2)));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let four = left.add(row * LINE + line * 4).cast::<i32>().read_unaligned();
                    let four = _mm256_set1_epi32(four);
                    acc[0] = _mm256_dpbusd_avx_epi32(acc[0], four, low);
                    acc[1] = _mm256_dpbusd_avx_epi32(acc[1], four, high);
                }
            }
        }
    }
    for (row, acc) in acc.iter().enumerate() {
        // SAFETY: there is room for this row.
        unsafe {
            _mm256_storeu_si256(sums.add(row * BLOCK).cast(), acc[0]);
            _mm256_storeu_si256(sums.add(row * BLOCK + 8).cast(), acc[1]);
        }
    }
    R
}

/// # Safety
/// 32 bytes lie at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<T>(from: *const T) -> __m256i {
    // SAFETY: as the caller says.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

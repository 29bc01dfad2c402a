//! Whole numbers in 256-bit registers, for CPUs without VNNI of either width: six rows by eight outputs are twelve
//! registers of sums, each of four outputs and, for each of them, two sums that belong together.
//!
//! Numbers are multiplied as pairs of sixteen bits, whose sums cannot run over, where pairs of eight bits could. Rows come
//! as sixteen bits; weights stay int8 in memory and are widened on their way into a register, once for all six rows.

use std::arch::x86_64::*;

use super::{LINE, Left, STEP, TILE};
use crate::activations::BLOCK;
use crate::linear::fetch_ahead;

/// Rows that are multiplied at once.
const ROWS: usize = 6;
/// Outputs that are.
const OUTPUTS: usize = 8;
/// Bytes of four inputs of a row.
const FOUR: usize = 8;

/// Rows are int16; `sums` has as many rows of 32.
///
/// # Safety
/// The CPU has AVX2; `left` has a line of each row for each step of `panel`, `begins` are 32 numbers, and `sums` has room
/// for as many rows of 32.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    for output in (0..BLOCK).step_by(OUTPUTS) {
        let panel = &panel[output / 16 * TILE + output % 16 * 4..];
        let begins = &begins[output..][..OUTPUTS];
        let mut row = 0;
        while row < left.rows {
            let from = left.lines[row * 2 * LINE..].as_ptr();
            let to = sums[row * BLOCK + output..].as_mut_ptr();
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

/// `R` rows at once, for the outputs with which `panel` begins; says how many rows that were. The
/// `FIRST` ones fetch weights ahead.
///
/// # Safety
/// From `left` on lie `R` lines for each step of `panel`, `stride` lines from step to step; `begins` are eight numbers, and
/// `sums` has room for eight of each row.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn rows<const R: usize, const FIRST: bool>(
    left: *const u8,
    stride: usize,
    panel: &[i8],
    begins: &[i32],
    sums: *mut i32,
) -> usize {
    let mut acc = [[_mm256_setzero_si256(); 2]; R];
    for (step, tile) in panel.chunks(STEP).enumerate() {
        let left = left.wrapping_add(step * stride * 2 * LINE);
        for group in 0..LINE / 4 {
            let weights = tile.as_ptr().wrapping_add(group * LINE);
            if FIRST {
                fetch_ahead(weights);
            }
            // SAFETY: a tile has sixteen lines of 64 bytes, of which the outputs take 32; a row has eight bytes for each line.
            unsafe {
                let weights = [widened(weights), widened(weights.add(16))];
                for (row, acc) in acc.iter_mut().enumerate() {
                    let four = left.add(row * 2 * LINE + group * FOUR).cast::<i64>().read_unaligned();
                    let four = _mm256_set1_epi64x(four);
                    for (acc, weights) in acc.iter_mut().zip(weights) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(weights, four));
                    }
                }
            }
        }
    }
    for (row, [low, high]) in acc.into_iter().enumerate() {
        // Sums of pairs go by lanes of 128 bits: two outputs of the one, two of the other.
        let paired = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
        // SAFETY: there are eight numbers, and there is room for eight.
        unsafe {
            let begins = _mm256_loadu_si256(begins.as_ptr().cast());
            _mm256_storeu_si256(sums.add(row * BLOCK).cast(), _mm256_add_epi32(paired, begins));
        }
    }
    R
}

/// Sixteen int8 as numbers of sixteen bits.
///
/// # Safety
/// Sixteen bytes lie at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widened(from: *const i8) -> __m256i {
    // SAFETY: as the caller says.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Makes floats of the `whole` sums `(rows, 32)`, with the scales of 32 outputs and of the rows.
#[target_feature(enable = "avx2")]
pub(super) fn to_floats(whole: &[i32], outputs: &[f32], rows: &[f32], floats: &mut [f32]) {
    super::portable::to_floats(whole, outputs, rows, floats);
}

//! Whole numbers in 256-bit registers, for CPUs without AVX-512: four outputs by four inputs at once, as sums of pairs.

use std::arch::x86_64::*;

use super::{LINE, Left, STEP, TILE};
use crate::activations::BLOCK;

/// Registers of a tile: four outputs each.
const QUARTERS: usize = 4;

/// Rows are int8; `sums` has as many rows of 32.
///
/// # Safety
/// The CPU has AVX2; `left` has a line of each row for each step of `panel`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn multiply(left: Left<'_>, panel: &[i8], begins: &[i32], sums: &mut [i32]) {
    for (row, to) in sums.chunks_exact_mut(BLOCK).enumerate() {
        let mut pairs = [_mm256_setzero_si256(); 2 * QUARTERS];
        for (step, tiles) in panel.chunks_exact(STEP).enumerate() {
            let line = &left.lines[(step * left.stride + row) * LINE..][..LINE];
            for (group, four) in line.chunks_exact(4).enumerate() {
                let four = _mm256_set1_epi64x(widened(four));
                for (quarter, pairs) in pairs.iter_mut().enumerate() {
                    let from = quarter / QUARTERS * TILE + group * LINE + quarter % QUARTERS * 16;
                    let weights = tiles[from..from + 16].as_ptr();
                    // SAFETY: sixteen weights were just counted.
                    let weights = unsafe { _mm_loadu_si128(weights.cast()) };
                    let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(weights), four);
                    *pairs = _mm256_add_epi32(*pairs, products);
                }
            }
        }
        let outputs = to.chunks_exact_mut(4).zip(begins.chunks_exact(4));
        for (pairs, (to, begins)) in pairs.into_iter().zip(outputs) {
            let mut numbers = [0; 8];
            // SAFETY: there are eight numbers.
            unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), pairs) };
            for ((to, begin), pair) in to.iter_mut().zip(begins).zip(numbers.chunks_exact(2)) {
                *to = begin + pair[0] + pair[1];
            }
        }
    }
}

/// Four int8 as four numbers of 16 bits side by side.
fn widened(four: &[u8]) -> i64 {
    let wide = |index: usize| i64::from(i16::from(four[index].cast_signed()).cast_unsigned()) << (16 * index);
    wide(0) | wide(1) | wide(2) | wide(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::portable;
    use super::*;

    proptest! {
        #[test]
        fn sums_are_those_of_plain_rust(rows in 1_usize..6, steps in 1_usize..4, seed in any::<u64>()) {
            if is_x86_feature_detected!("avx2") {
                let mut state = seed | 1;
                let mut next = move || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // -127 to 127, as rows and weights are.
                    state.to_le_bytes()[5].cast_signed().max(-127)
                };
                let lines: Vec<u8> = (0..rows * steps * LINE).map(|_| next().cast_unsigned()).collect();
                let panel: Vec<i8> = (0..steps * STEP).map(|_| next()).collect();
                let begins: Vec<i32> = (0..32).map(|_| i32::from(next())).collect();
                let left = Left { lines: &lines, stride: rows, rows };
                let (mut found, mut wanted) = (vec![0; rows * BLOCK], vec![0; rows * BLOCK]);
                // SAFETY: the CPU has AVX2, as was just asked, and the lines are those of all steps.
                unsafe { multiply(left, &panel, &begins, &mut found) };
                portable::multiply(left, &panel, &begins, &mut wanted);
                prop_assert_eq!(found, wanted);
            }
        }
    }
}

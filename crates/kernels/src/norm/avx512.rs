//! Layer norm of `R` rows side by side in 512-bit registers: one row by itself waits twice for the sum of its own lanes.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{LayerNorm, Lines};
use crate::activations::BLOCK;
use crate::convert::avx512::{Instruction, Plain, Rounding, store_bf16};
use crate::output::avx512::{Masks, Pair, add};

/// Normalises `R` rows and writes them as lines of bf16.
///
/// # Safety
/// The CPU has these features, and nobody else uses these lines meanwhile.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn to_blocks<const R: usize>(norm: &LayerNorm, rows: impl Rows, lines: Lines<'_>) {
    // SAFETY: as the caller says.
    unsafe { write_blocks::<R, Instruction>(norm, rows, lines) };
}

/// The same on a CPU without bf16.
///
/// # Safety
/// As of [`to_blocks`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn to_blocks_plainly<const R: usize>(norm: &LayerNorm, rows: impl Rows, lines: Lines<'_>) {
    // SAFETY: as the caller says.
    unsafe { write_blocks::<R, Plain>(norm, rows, lines) };
}

/// Rows that are normalised, and whether they become what is written.
pub(super) trait Rows {
    fn values(&self) -> &[f32];

    /// What up to 32 columns of a row have become.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    unsafe fn take(&mut self, norm: &LayerNorm, row: usize, columns: &Range<usize>, normal: Pair);
}

/// They do.
impl Rows for &mut [f32] {
    fn values(&self) -> &[f32] {
        self
    }

    #[inline(always)]
    unsafe fn take(&mut self, norm: &LayerNorm, row: usize, columns: &Range<usize>, normal: Pair) {
        // SAFETY: as the caller says.
        unsafe { store(norm.part_mut(self, row, columns), Masks::first(columns.len()), normal) };
    }
}

/// They stay as they are.
impl Rows for &[f32] {
    fn values(&self) -> &[f32] {
        self
    }

    #[inline(always)]
    unsafe fn take(&mut self, _norm: &LayerNorm, _row: usize, _columns: &Range<usize>, _normal: Pair) {}
}

/// Compiled for the features of whoever calls it.
///
/// # Safety
/// The CPU has AVX-512 and what `B` needs, and nobody else uses these lines meanwhile.
#[inline(always)]
unsafe fn write_blocks<const R: usize, B: Rounding>(norm: &LayerNorm, mut rows: impl Rows, lines: Lines<'_>) {
    // SAFETY: as the caller says.
    unsafe {
        let moments = moments::<R>(norm, rows.values());
        for (block, columns) in norm.blocks() {
            let masks = Masks::first(columns.len());
            let normal = norm.normal(rows.values(), &columns, &moments);
            for (row, normal) in normal.into_iter().enumerate() {
                rows.take(norm, row, &columns, normal);
                store_bf16::<B>(lines.of_block(row, block), masks, normal);
            }
        }
    }
}

/// Normalises `R` `rows` where they are.
#[target_feature(enable = "avx512f")]
pub(super) fn apply<const R: usize>(norm: &LayerNorm, rows: &mut [f32]) {
    let moments = moments::<R>(norm, rows);
    for (_, columns) in norm.blocks() {
        let masks = Masks::first(columns.len());
        for (row, normal) in norm.normal(rows, &columns, &moments).into_iter().enumerate() {
            store(norm.part_mut(rows, row, &columns), masks, normal);
        }
    }
}

/// The mean, and one over the standard deviation, of each row, in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn moments<const R: usize>(norm: &LayerNorm, rows: &[f32]) -> [[__m512; 2]; R] {
    let count = norm.width() as f32;
    let zeros = [[_mm512_setzero_ps(); 2]; R];
    let mut sums = zeros;
    for (_, columns) in norm.blocks() {
        for (row, sums) in sums.iter_mut().enumerate() {
            *sums = add(*sums, load(norm.part(rows, row, &columns)));
        }
    }
    let means = sums.map(|sums| _mm512_set1_ps(total(sums) / count));
    let mut squares = zeros;
    for (_, columns) in norm.blocks() {
        let masks = Masks::first(columns.len());
        for (row, (squares, mean)) in squares.iter_mut().zip(means).enumerate() {
            let values = load(norm.part(rows, row, &columns));
            for half in 0..2 {
                let difference = _mm512_maskz_sub_ps(masks.0[half], values[half], mean);
                squares[half] = _mm512_fmadd_ps(difference, difference, squares[half]);
            }
        }
    }
    let mut moments = zeros;
    for ((moments, mean), squares) in moments.iter_mut().zip(means).zip(squares) {
        let deviation = (total(squares) / count + norm.epsilon).sqrt();
        *moments = [mean, _mm512_set1_ps(1.0 / deviation)];
    }
    moments
}

impl LayerNorm {
    /// What up to 32 values of each row become.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn normal<const R: usize>(
        &self,
        rows: &[f32],
        columns: &Range<usize>,
        moments: &[[__m512; 2]; R],
    ) -> [[__m512; 2]; R] {
        let (scale, shift) = (load(&self.scale[columns.clone()]), load(&self.shift[columns.clone()]));
        let mut normal = [[_mm512_setzero_ps(); 2]; R];
        for (row, (normal, [mean, factor])) in normal.iter_mut().zip(moments).enumerate() {
            let before = load(self.part(rows, row, columns));
            for half in 0..2 {
                let centred = _mm512_sub_ps(before[half], *mean);
                normal[half] = _mm512_fmadd_ps(_mm512_mul_ps(centred, *factor), scale[half], shift[half]);
            }
        }
        normal
    }

    /// Blocks of up to 32 columns, with their numbers.
    fn blocks(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let width = self.width();
        (0..width)
            .step_by(BLOCK)
            .enumerate()
            .map(move |(block, start)| (block, start..width.min(start + BLOCK)))
    }

    /// Some columns of a row.
    #[inline]
    fn part<'r>(&self, rows: &'r [f32], row: usize, columns: &Range<usize>) -> &'r [f32] {
        &rows[row * self.width()..][columns.clone()]
    }

    #[inline]
    fn part_mut<'r>(&self, rows: &'r mut [f32], row: usize, columns: &Range<usize>) -> &'r mut [f32] {
        &mut rows[row * self.width()..][columns.clone()]
    }
}

/// The sum of all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn total(values: [__m512; 2]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(values[0], values[1]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32], masks: Masks, values: [__m512; 2]) {
    // SAFETY: `masks` have a bit for each place, and other lanes are not written.
    unsafe { masks.store(to.as_mut_ptr(), values) }
}

/// Up to 32 values; the other lanes are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> [__m512; 2] {
    // SAFETY: the masks have a bit for each value, and other lanes are not read.
    unsafe { Masks::first(values.len()).load(values.as_ptr()) }
}

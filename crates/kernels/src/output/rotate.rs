//! Rotary positions: pairs of columns of queries and keys are turned by an angle of the row.

use std::slice::Chunks;

use crate::activations::BLOCK;

/// What turns the queries and keys of a product.
///
/// Within each 32 columns, column `i` and column `i + 16` are a pair. A score does not depend on the order of a head's
/// columns as long as queries and keys have the same, so that weights can be put into this order when they are packed,
/// whichever pairs a model was trained with.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// `(rows, width)`: for each 32 columns of a head the cosines of its sixteen pairs, then their sines.
    pub angles: &'a [f32],
    /// Columns of a head, a multiple of 32.
    pub width: usize,
    /// How many columns are turned, from the first on: those of queries and keys.
    pub columns: usize,
}

impl<'a> Rotation<'a> {
    /// # Panics
    /// If a size does not fit.
    pub(super) fn assert_fits(&self, rows: usize, width: usize) {
        assert!(self.width.is_multiple_of(BLOCK) && self.width > 0, "heads of {} columns", self.width);
        assert!(self.columns.is_multiple_of(self.width) && self.columns <= width, "columns that are turned");
        assert_eq!(self.angles.len(), rows * self.width, "angles of all rows");
    }

    /// The angles of a panel from row `row` on, at the begin of each slice; none where the panel is not turned.
    pub(super) fn of_panel(&self, panel: usize, row: usize) -> Option<Chunks<'a, f32>> {
        let column = panel * BLOCK;
        (column < self.columns)
            .then(|| self.angles[row * self.width + column % self.width..].chunks(self.width))
    }
}

/// Turns one row of a panel.
pub(super) fn portable(values: &mut [f32; BLOCK], angles: &[f32]) {
    let (first, second) = values.split_at_mut(BLOCK / 2);
    let (cosines, sines) = angles[..BLOCK].split_at(BLOCK / 2);
    for ((first, second), (cosine, sine)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
        (*first, *second) = (*first * cosine - *second * sine, *second * cosine + *first * sine);
    }
}

/// In 512-bit registers: all first numbers of the pairs in one, all second in the other.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use std::arch::x86_64::*;
    use std::slice::{Chunks, ChunksExact, ChunksExactMut};

    use crate::activations::BLOCK;
    use crate::convert::avx512::store_bf16;
    use crate::output::avx512::{Masks, Pair, add, load, store};

    /// Into rows of f32 that are `width` apart, the first beginning at `to`.
    #[target_feature(enable = "avx512f")]
    pub(crate) fn rows(
        sums: ChunksExact<'_, f32>,
        bias: Pair,
        angles: Chunks<'_, f32>,
        to: &mut [f32],
        width: usize,
    ) {
        for ((sums, angles), to) in sums.zip(angles).zip(to.chunks_mut(width)) {
            store(&mut to[..BLOCK], Masks::first(BLOCK), turn(add(load(sums), bias), angles));
        }
    }

    /// Into lines of bf16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(crate) fn lines(
        sums: ChunksExact<'_, f32>,
        bias: Pair,
        angles: Chunks<'_, f32>,
        to: ChunksExactMut<'_, u16>,
    ) {
        for ((sums, angles), line) in sums.zip(angles).zip(to) {
            store_bf16(line, Masks::first(BLOCK), turn(add(load(sums), bias), angles));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(values: Pair, angles: &[f32]) -> Pair {
        let ([first, second], [cosines, sines]) = (values, load(angles));
        [
            _mm512_fmsub_ps(first, cosines, _mm512_mul_ps(second, sines)),
            _mm512_fmadd_ps(second, cosines, _mm512_mul_ps(first, sines)),
        ]
    }
}

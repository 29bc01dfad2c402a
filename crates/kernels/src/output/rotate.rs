//! Rotary positions: pairs of columns of queries and keys are turned by an angle of the row.

use crate::activations::BLOCK;
use crate::multiply_add::MultiplyAdd;

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

    /// The angles of a panel from row `row` on, those of the next row [`Rotation::width`] further on; none where the panel
    /// is not turned.
    pub(super) fn of_panel(&self, panel: usize, row: usize) -> Option<&'a [f32]> {
        let column = panel * BLOCK;
        (column < self.columns).then(|| &self.angles[row * self.width + column % self.width..])
    }
}

/// Turns one row of a panel.
#[inline(always)]
pub(super) fn portable<M: MultiplyAdd>(values: &mut [f32; BLOCK], angles: &[f32]) {
    let (first, second) = values.split_at_mut(BLOCK / 2);
    let (cosines, sines) = angles[..BLOCK].split_at(BLOCK / 2);
    for ((first, second), (cosine, sine)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
        (*first, *second) = (
            M::multiply_add(*first, *cosine, -*second * sine),
            M::multiply_add(*second, *cosine, *first * sine),
        );
    }
}

/// In 512-bit registers: all first numbers of the pairs in one, all second in the other.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use std::arch::x86_64::*;

    use crate::output::avx512::Pair;

    /// Turns one row of a panel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn turn([first, second]: Pair, [cosines, sines]: Pair) -> Pair {
        [
            _mm512_fmsub_ps(first, cosines, _mm512_mul_ps(second, sines)),
            _mm512_fmadd_ps(second, cosines, _mm512_mul_ps(first, sines)),
        ]
    }
}

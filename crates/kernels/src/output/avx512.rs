//! Finishing sums in 512-bit registers: a row of a panel is two of them.

pub(crate) mod kinds;

use std::arch::x86_64::*;
use std::ops::Range;

pub(crate) use self::kinds::Finish;
use self::kinds::Row;
use super::{Ending, Gate, Place, Sink};
use crate::activations::BLOCK;

/// 32 columns.
pub(crate) type Pair = [__m512; 2];

/// The columns of a panel that exist, sixteen to a mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masks(pub(crate) [__mmask16; 2]);

impl Masks {
    pub(crate) fn first(columns: usize) -> Self {
        let all = if columns >= BLOCK { u32::MAX } else { (1_u32 << columns) - 1 };
        #[expect(clippy::cast_possible_truncation, reason = "each half is a mask of its own")]
        Self([all as u16, (all >> 16) as u16])
    }

    /// Reads the columns that exist; the others are zero.
    ///
    /// # Safety
    /// As many values can be read at `from` as there are bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn load(self, from: *const f32) -> Pair {
        // SAFETY: masked lanes are not read, and the others can be; the pointer of the second half is only used for lanes
        // that exist.
        unsafe {
            [_mm512_maskz_loadu_ps(self.0[0], from), _mm512_maskz_loadu_ps(self.0[1], from.wrapping_add(16))]
        }
    }

    /// Writes the columns that exist.
    ///
    /// # Safety
    /// As many values can be written at `to` as there are bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn store(self, to: *mut f32, values: Pair) {
        // SAFETY: as in `load`.
        unsafe {
            _mm512_mask_storeu_ps(to, self.0[0], values[0]);
            _mm512_mask_storeu_ps(to.wrapping_add(16), self.0[1], values[1]);
        }
    }
}

/// Finishes the rows `range` of the sums `(rows, 32)` of `place`, for a tier whose activations are f32 rows.
///
/// # Safety
/// The CPU has these features, and nobody else uses this place of the output meanwhile.
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) unsafe fn finish_rows(
    sink: Sink<'_>,
    place: Place,
    sums: &[f32],
    bias: &[f32],
    range: Range<usize>,
) {
    let mut rows = unfinished(sink, place, sums, bias, range);
    // SAFETY: the place was checked, and there are as many sums.
    unsafe {
        match sink.ending {
            Ending::Rows | Ending::Activations | Ending::Rotated(_) => rows.all::<kinds::IntoRows>(),
            Ending::AddTo => rows.all::<kinds::AddToRows>(),
            Ending::Gelu => rows.all::<kinds::GeluRows>(),
            Ending::Gated(Gate::Silu) => rows.all::<kinds::SiluGatedRows>(),
            Ending::Gated(Gate::Gelu) => rows.all::<kinds::GeluGatedRows>(),
        }
    }
}

/// The same for a tier whose activations are blocks of bf16.
///
/// # Safety
/// As of [`finish_rows`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) unsafe fn finish_blocks(
    sink: Sink<'_>,
    place: Place,
    sums: &[f32],
    bias: &[f32],
    range: Range<usize>,
) {
    let mut rows = unfinished(sink, place, sums, bias, range);
    // SAFETY: the place was checked, and there are as many sums.
    unsafe {
        match sink.ending {
            Ending::Rows => rows.all::<kinds::IntoRows>(),
            Ending::AddTo => rows.all::<kinds::AddToRows>(),
            Ending::Activations | Ending::Rotated(_) => rows.all::<kinds::IntoLines>(),
            Ending::Gelu => rows.all::<kinds::GeluLines>(),
            Ending::Gated(Gate::Silu) => rows.all::<kinds::SiluGatedLines>(),
            Ending::Gated(Gate::Gelu) => rows.all::<kinds::GeluGatedLines>(),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn unfinished(sink: Sink<'_>, place: Place, sums: &[f32], bias: &[f32], range: Range<usize>) -> Unfinished {
    let place = Place { row: place.row + range.start, rows: range.len(), panel: place.panel };
    sink.block(place, sums[range.start * BLOCK..range.end * BLOCK].as_ptr(), bias)
}

impl Sink<'_> {
    /// The sums `(rows, 32)` of `place`, to be finished row by row.
    ///
    /// # Panics
    /// If the place is not within the output.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn block(&self, place: Place, sums: *const f32, bias: &[f32]) -> Unfinished {
        let (angles, angles_row) = match self.rotation() {
            Some(rotation) => (rotation.of_panel(place.panel, place.row), rotation.width),
            None => (None, 0),
        };
        Unfinished {
            sums,
            row: Row {
                to: self.at(place),
                masks: Masks::first(self.width - place.panel * BLOCK),
                angles: angles.map_or(std::ptr::null(), <[f32]>::as_ptr),
            },
            steps: [self.row, if angles.is_some() { angles_row } else { 0 }],
            left: place.rows,
            bias: load(&bias[place.panel * BLOCK..]),
        }
    }
}

/// What is left of a block of sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    sums: *const f32,
    row: Row,
    /// Bytes to the next row, and angles to those of the next.
    steps: [usize; 2],
    left: usize,
    bias: Pair,
}

impl Unfinished {
    #[target_feature(enable = "avx512f")]
    pub(crate) fn none() -> Self {
        let row = Row { to: std::ptr::null_mut(), masks: Masks::first(0), angles: std::ptr::null() };
        Self { sums: std::ptr::null(), row, steps: [0; 2], left: 0, bias: [_mm512_setzero_ps(); 2] }
    }

    /// Finishes one row, if one is left.
    ///
    /// # Safety
    /// The CPU has what [`Finish::row`] needs, the kind is that of the output, which is still there, and the sums can be
    /// read.
    #[inline(always)]
    pub(crate) unsafe fn row<F: Finish>(&mut self) {
        if self.left > 0 {
            // SAFETY: as the caller says.
            unsafe {
                let sums = [_mm512_loadu_ps(self.sums), _mm512_loadu_ps(self.sums.add(16))];
                let values = [_mm512_add_ps(sums[0], self.bias[0]), _mm512_add_ps(sums[1], self.bias[1])];
                F::row(values, self.row);
            }
            self.sums = self.sums.wrapping_add(BLOCK);
            self.row.to = self.row.to.wrapping_add(self.steps[0]);
            self.row.angles = self.row.angles.wrapping_add(self.steps[1]);
            self.left -= 1;
        }
    }

    /// Finishes all rows that are left.
    ///
    /// # Safety
    /// As of [`Unfinished::row`].
    #[inline(always)]
    pub(crate) unsafe fn all<F: Finish>(&mut self) {
        while self.left > 0 {
            // SAFETY: as the caller says.
            unsafe { self.row::<F>() };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32]) -> Pair {
    let from = &from[..BLOCK];
    // SAFETY: the slice has 32 values.
    unsafe { [_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from.as_ptr().add(16))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn add(values: Pair, others: Pair) -> Pair {
    [_mm512_add_ps(values[0], others[0]), _mm512_add_ps(values[1], others[1])]
}

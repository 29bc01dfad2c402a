//! Finishing sums in 512-bit registers: a row of a panel is two of them.

pub(crate) mod kinds;
pub(crate) mod sums;

use std::arch::x86_64::*;
use std::marker::PhantomData;

pub(crate) use self::kinds::Finish;
use self::kinds::Row;
use self::sums::Sums;
use super::{Place, Sink};
use crate::activations::BLOCK;
use crate::linear::between::Between;

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

/// What is left of a block of sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished<F, S> {
    sums: S,
    row: Row,
    /// Bytes to the next row, and angles to those of the next.
    steps: [usize; 2],
    left: usize,
    finish: PhantomData<F>,
}

impl<F: Finish, S: Sums> Unfinished<F, S> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn none() -> Self {
        let row = Row { to: std::ptr::null_mut(), masks: Masks::first(0), angles: std::ptr::null() };
        Self { sums: S::none(), row, steps: [0; 2], left: 0, finish: PhantomData }
    }

    /// The `sums` of `place`. To finish them the CPU must have what [`Finish::row`] needs, `F` be the kind of the output,
    /// which is still there and used here alone, and the sums be readable until then.
    ///
    /// # Panics
    /// If the place is not within the output.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn new(sink: Sink<'_>, place: Place, sums: S) -> Self {
        let (angles, angles_row) = match sink.rotation() {
            Some(rotation) => (rotation.of_panel(place.panel, place.row), rotation.width),
            None => (None, 0),
        };
        let row = Row {
            to: sink.at(place),
            masks: Masks::first(sink.width - place.panel * BLOCK),
            angles: angles.map_or(std::ptr::null(), <[f32]>::as_ptr),
        };
        let steps = [sink.row, if angles.is_some() { angles_row } else { 0 }];
        Self { sums, row, steps, left: place.rows, finish: PhantomData }
    }
}

/// A part is a row.
impl<F: Finish, S: Sums> Between for Unfinished<F, S> {
    #[inline(always)]
    unsafe fn part(&mut self) {
        if self.left > 0 {
            // SAFETY: as the caller says, and a row is left.
            unsafe { F::row(self.sums.next(), self.row) };
            self.row.to = self.row.to.wrapping_add(self.steps[0]);
            self.row.angles = self.row.angles.wrapping_add(self.steps[1]);
            self.left -= 1;
        }
    }

    #[inline(always)]
    unsafe fn rest(&mut self) {
        while self.left > 0 {
            // SAFETY: as the caller says.
            unsafe { self.part() };
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

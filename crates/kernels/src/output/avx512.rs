//! Finishing sums in 512-bit registers: a row of a panel is two of them.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Output, Place, Sink};
use crate::activations::{BLOCK, Layout};
use crate::convert::avx512::write_bf16;
use crate::gelu::avx512::{gelu, gelu_for_bf16};

/// 32 columns.
type Pair = [__m512; 2];

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
#[target_feature(enable = "avx512f")]
pub(crate) fn finish_rows(
    sink: &mut Sink<'_>,
    place: Place,
    sums: &[f32],
    bias: &[f32],
    range: Range<usize>,
) {
    let place = Place { row: place.row + range.start, rows: range.len(), panel: place.panel };
    let sums = &sums[range.start * BLOCK..range.end * BLOCK];
    let mut rows = Target::of(sink).block(place, sums.as_ptr(), bias);
    // SAFETY: the place was checked, and there are as many sums.
    unsafe {
        match sink.output {
            Output::Rows(_) | Output::Activations(_) => rows.all::<IntoRows>(),
            Output::AddTo(_) => rows.all::<AddToRows>(),
            Output::Gelu(_) => rows.all::<GeluIntoRows>(),
        }
    }
}

/// How one row of a panel is finished.
pub(crate) trait Finish {
    /// Takes sums with their bias, up to 32 of which there are.
    ///
    /// # Safety
    /// The CPU has AVX-512, and bf16 for lines. As many values can be written at `to` as `masks` have bits, or a whole line
    /// of bf16.
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8);
}

/// Into f32 rows.
pub(crate) struct IntoRows;
/// Added to f32 rows.
pub(crate) struct AddToRows;
/// Through the GELU into f32 rows.
pub(crate) struct GeluIntoRows;
/// Into lines of bf16.
pub(crate) struct IntoLines;
/// Through the GELU into lines of bf16.
pub(crate) struct GeluIntoLines;

impl Finish for IntoRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { masks.store(to.cast(), values) };
    }
}

impl Finish for AddToRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { masks.store(to.cast(), add(masks.load(to.cast::<f32>()), values)) };
    }
}

impl Finish for GeluIntoRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { masks.store(to.cast(), values.map(|half| gelu(half))) };
    }
}

impl Finish for IntoLines {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { write_bf16(to.cast(), masks, values) };
    }
}

impl Finish for GeluIntoLines {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn row(values: Pair, masks: Masks, to: *mut u8) {
        // SAFETY: as the caller says.
        unsafe { write_bf16(to.cast(), masks, values.map(|half| gelu_for_bf16(half))) };
    }
}

/// Where an output lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    start: *mut u8,
    /// Bytes from row to row, and from panel to panel.
    row: usize,
    panel: usize,
    /// How many rows there are, and columns of all panels.
    rows: usize,
    width: usize,
}

impl Target {
    pub(crate) fn of(sink: &mut Sink<'_>) -> Self {
        let (rows, width) = (sink.rows, sink.width);
        let of_rows =
            |values: *mut f32| Self { start: values.cast(), row: 4 * width, panel: 4 * BLOCK, rows, width };
        match &mut sink.output {
            Output::Rows(to) | Output::AddTo(to) => of_rows(to.as_mut_ptr()),
            Output::Activations(to) | Output::Gelu(to) => match &mut to.layout {
                Layout::Rows(values) => of_rows(values.as_mut_ptr()),
                Layout::Blocks { values, stride } => Self {
                    start: values.as_mut_ptr().cast(),
                    row: 2 * BLOCK,
                    panel: 2 * BLOCK * *stride,
                    rows,
                    width,
                },
            },
        }
    }

    /// The sums `(rows, 32)` of `place`, to be finished row by row.
    ///
    /// # Panics
    /// If the place is not within the output.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn block(self, place: Place, sums: *const f32, bias: &[f32]) -> Unfinished {
        assert!(place.row + place.rows <= self.rows && place.panel * BLOCK < self.width);
        Unfinished {
            sums,
            to: self.start.wrapping_add(place.panel * self.panel + place.row * self.row),
            row: self.row,
            left: place.rows,
            masks: Masks::first(self.width - place.panel * BLOCK),
            bias: load(&bias[place.panel * BLOCK..]),
        }
    }
}

/// What is left of a block of sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    sums: *const f32,
    to: *mut u8,
    row: usize,
    left: usize,
    masks: Masks,
    bias: Pair,
}

impl Unfinished {
    #[target_feature(enable = "avx512f")]
    pub(crate) fn none() -> Self {
        let bias = [_mm512_setzero_ps(); 2];
        Self {
            sums: std::ptr::null(),
            to: std::ptr::null_mut(),
            row: 0,
            left: 0,
            masks: Masks::first(0),
            bias,
        }
    }

    /// Finishes one row, if one is left.
    ///
    /// # Safety
    /// The CPU has what [`Finish::row`] needs, the sums can be read, and the output that this was made for is still there.
    #[inline(always)]
    pub(crate) unsafe fn row<F: Finish>(&mut self) {
        if self.left > 0 {
            // SAFETY: as the caller says.
            unsafe {
                let sums = [_mm512_loadu_ps(self.sums), _mm512_loadu_ps(self.sums.add(16))];
                let values = [_mm512_add_ps(sums[0], self.bias[0]), _mm512_add_ps(sums[1], self.bias[1])];
                F::row(values, self.masks, self.to);
            }
            self.sums = self.sums.wrapping_add(BLOCK);
            self.to = self.to.wrapping_add(self.row);
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
fn add(values: Pair, others: Pair) -> Pair {
    [_mm512_add_ps(values[0], others[0]), _mm512_add_ps(values[1], others[1])]
}

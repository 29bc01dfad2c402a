//! What becomes of one row of a panel.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Masks, Pair, add};
use crate::activations::BLOCK;
use crate::convert::avx512::{Instruction, Plain, Rounding, write_bf16};
use crate::gelu::avx512::{gelu, gelu_for_bf16};
use crate::output::rotate::avx512::turn;
use crate::output::{Ending, Gate};
use crate::silu::avx512::silu;

/// How one row of a panel is finished.
pub(crate) trait Finish {
    /// Takes sums with their bias.
    ///
    /// # Safety
    /// The CPU has AVX-512, and for lines what their rounding needs. What this writes can be written, and `row.angles` read if it
    /// is not null.
    unsafe fn row(values: Pair, row: Row);
}

/// What is compiled once for each way to finish rows.
pub(crate) trait Work {
    /// Does it.
    ///
    /// # Safety
    /// As of what makes the value; `F` is the kind of its output.
    unsafe fn with<F: Finish>(self);
}

/// Does work of a tier whose activations are f32 rows.
///
/// # Safety
/// As of [`Work::with`].
pub(crate) unsafe fn for_rows(ending: Ending<'_>, work: impl Work) {
    // SAFETY: as the caller says.
    unsafe {
        match ending {
            Ending::Rows | Ending::Activations | Ending::Rotated(_) => work.with::<IntoRows>(),
            Ending::AddTo => work.with::<AddToRows>(),
            Ending::Gelu => work.with::<GeluRows>(),
            Ending::Gated(Gate::Silu) => work.with::<SiluGatedRows>(),
            Ending::Gated(Gate::Gelu) => work.with::<GeluGatedRows>(),
        }
    }
}

/// Does work of a tier whose activations are blocks of bf16, rounded by `R`.
///
/// # Safety
/// As of [`Work::with`].
pub(crate) unsafe fn for_lines<R>(ending: Ending<'_>, work: impl Work)
where
    IntoLines<R>: Finish,
    GeluLines<R>: Finish,
    SiluGatedLines<R>: Finish,
    GeluGatedLines<R>: Finish,
{
    // SAFETY: as the caller says.
    unsafe {
        match ending {
            Ending::Rows => work.with::<IntoRows>(),
            Ending::AddTo => work.with::<AddToRows>(),
            Ending::Activations | Ending::Rotated(_) => work.with::<IntoLines<R>>(),
            Ending::Gelu => work.with::<GeluLines<R>>(),
            Ending::Gated(Gate::Silu) => work.with::<SiluGatedLines<R>>(),
            Ending::Gated(Gate::Gelu) => work.with::<GeluGatedLines<R>>(),
        }
    }
}

/// One row of a panel of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Where the row begins: f32, or a line (or half of one) of bf16.
    pub(super) to: *mut u8,
    pub(super) masks: Masks,
    /// 32 numbers that turn it, or null.
    pub(super) angles: *const f32,
}

/// Into f32 rows.
pub(crate) struct IntoRows;
/// Added to f32 rows.
pub(crate) struct AddToRows;
/// Through the GELU into f32 rows.
pub(crate) struct GeluRows;
/// Half of the columns times the SiLU of the others, into f32 rows.
pub(crate) struct SiluGatedRows;
/// The same with the GELU.
pub(crate) struct GeluGatedRows;
/// Into lines of bf16.
pub(crate) struct IntoLines<R>(PhantomData<R>);
/// Through the GELU into lines of bf16.
pub(crate) struct GeluLines<R>(PhantomData<R>);
/// Half of the columns times the SiLU of the others, into half lines of bf16.
pub(crate) struct SiluGatedLines<R>(PhantomData<R>);
/// The same with the GELU.
pub(crate) struct GeluGatedLines<R>(PhantomData<R>);

impl Finish for IntoRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, row: Row) {
        // SAFETY: as the caller says.
        unsafe { row.masks.store(row.to.cast(), turned(values, row.angles)) };
    }
}

impl Finish for AddToRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, row: Row) {
        // SAFETY: as the caller says.
        unsafe { row.masks.store(row.to.cast(), add(row.masks.load(row.to.cast()), values)) };
    }
}

impl Finish for GeluRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, row: Row) {
        // SAFETY: as the caller says.
        unsafe { row.masks.store(row.to.cast(), [gelu(values[0]), gelu(values[1])]) };
    }
}

impl Finish for SiluGatedRows {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn row(values: Pair, row: Row) {
        // SAFETY: as the caller says.
        unsafe { _mm512_storeu_ps(row.to.cast(), _mm512_mul_ps(values[0], silu(values[1]))) };
    }
}

impl Finish for GeluGatedRows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(values: Pair, row: Row) {
        // SAFETY: as the caller says.
        unsafe { _mm512_storeu_ps(row.to.cast(), _mm512_mul_ps(values[0], gelu(values[1]))) };
    }
}

/// What ends in lines that are rounded in one way. One body, but for each way functions of just the features that it needs.
macro_rules! lines {
    ($rounding:ty, $features:literal) => {
        impl Finish for IntoLines<$rounding> {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row(values: Pair, row: Row) {
                // SAFETY: as the caller says.
                unsafe { write_bf16::<$rounding>(row.to.cast(), row.masks, turned(values, row.angles)) };
            }
        }

        impl Finish for GeluLines<$rounding> {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row(values: Pair, row: Row) {
                let values = [gelu_for_bf16(values[0]), gelu_for_bf16(values[1])];
                // SAFETY: as the caller says.
                unsafe { write_bf16::<$rounding>(row.to.cast(), row.masks, values) };
            }
        }

        impl Finish for SiluGatedLines<$rounding> {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row(values: Pair, row: Row) {
                // SAFETY: as the caller says.
                unsafe { write_half::<$rounding>(row.to, _mm512_mul_ps(values[0], silu(values[1]))) };
            }
        }

        impl Finish for GeluGatedLines<$rounding> {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn row(values: Pair, row: Row) {
                // SAFETY: as the caller says.
                unsafe {
                    write_half::<$rounding>(row.to, _mm512_mul_ps(values[0], gelu_for_bf16(values[1])))
                };
            }
        }
    };
}

lines!(Instruction, "avx512f,avx512dq,avx512bw,avx512bf16");
lines!(Plain, "avx512f,avx512dq,avx512bw");

/// # Safety
/// There are 32 angles, if there are any.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn turned(values: Pair, angles: *const f32) -> Pair {
    if angles.is_null() {
        return values;
    }
    // SAFETY: as the caller says.
    turn(values, unsafe { Masks::first(BLOCK).load(angles) })
}

/// # Safety
/// The CPU has what `R` needs, and 32 bytes can be written.
#[inline(always)]
unsafe fn write_half<R: Rounding>(to: *mut u8, values: __m512) {
    // SAFETY: as the caller says.
    unsafe { _mm256_storeu_si256(to.cast(), R::half(values)) };
}

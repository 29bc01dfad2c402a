//! Finishing sums in 512-bit registers: a row of a panel is two of them.

use std::arch::x86_64::*;
use std::ops::Range;
use std::slice::ChunksExact;

use super::{Output, Place, Sink, gate, rotate};
use crate::activations::{Activations, BLOCK, Layout};
use crate::convert::avx512::store_bf16;
use crate::gelu::avx512::{gelu, gelu_for_bf16};

/// 32 columns.
pub(super) type Pair = [__m512; 2];

/// The columns of a panel that exist, sixteen to a mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masks(pub(crate) [__mmask16; 2]);

impl Masks {
    pub(crate) fn first(columns: usize) -> Self {
        let all = if columns >= BLOCK { u32::MAX } else { (1_u32 << columns) - 1 };
        #[expect(clippy::cast_possible_truncation, reason = "each half is a mask of its own")]
        Self([all as u16, (all >> 16) as u16])
    }

    fn count(self) -> usize {
        self.0.iter().map(|mask| mask.count_ones() as usize).sum()
    }
}

/// Finishes the rows `range` of the sums `(rows, 32)` of `place`, for a tier whose activations are f32 rows.
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn finish_rows(
    sink: &mut Sink<'_>,
    place: Place,
    sums: &[f32],
    bias: &[f32],
    range: Range<usize>,
) {
    let columns = sink.columns(place.panel);
    let (masks, bias) = (Masks::first(columns), load(&bias[place.panel * BLOCK..]));
    let first = (place.row + range.start) * sink.width + place.panel * BLOCK;
    let sums = sums[range.start * BLOCK..range.end * BLOCK].chunks_exact(BLOCK);
    match &mut sink.output {
        Output::Rows(to) => into_rows(sums, bias, &mut to[first..], sink.width, masks),
        Output::AddTo(to) => {
            for (sums, to) in sums.zip(to[first..].chunks_mut(sink.width)) {
                add_to(&mut to[..columns], masks, add(load(sums), bias));
            }
        }
        Output::Activations(to) => into_rows(sums, bias, &mut rows_of(to)[first..], sink.width, masks),
        Output::Gelu(to) => {
            for (sums, to) in sums.zip(rows_of(to)[first..].chunks_mut(sink.width)) {
                store(&mut to[..columns], masks, add(load(sums), bias).map(|half| gelu(half)));
            }
        }
        Output::Gated(to, gate) => {
            gate::avx512::rows(*gate, sums, bias, &mut rows_of(to)[first / 2..], sink.width / 2);
        }
        Output::Rotated(to, rotation) => {
            let to = &mut rows_of(to)[first..];
            match rotation.of_panel(place.panel, place.row + range.start) {
                Some(angles) => rotate::avx512::rows(sums, bias, angles, to, sink.width),
                None => into_rows(sums, bias, to, sink.width, masks),
            }
        }
    }
}

/// The same for a tier whose activations are blocks of bf16.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(crate) fn finish_blocks(
    sink: &mut Sink<'_>,
    place: Place,
    sums: &[f32],
    bias: &[f32],
    range: Range<usize>,
) {
    let masks = Masks::first(sink.columns(place.panel));
    if let Output::Rows(_) | Output::AddTo(_) = sink.output {
        return finish_rows(sink, place, sums, bias, range);
    }
    let bias = load(&bias[place.panel * BLOCK..]);
    let sums = sums[range.start * BLOCK..range.end * BLOCK].chunks_exact(BLOCK);
    match &mut sink.output {
        Output::Activations(to) => {
            for (sums, line) in sums.zip(lines(to, place, range).chunks_exact_mut(BLOCK)) {
                store_bf16(line, masks, add(load(sums), bias));
            }
        }
        Output::Gelu(to) => {
            for (sums, line) in sums.zip(lines(to, place, range).chunks_exact_mut(BLOCK)) {
                store_bf16(line, masks, add(load(sums), bias).map(|half| gelu_for_bf16(half)));
            }
        }
        Output::Gated(to, gate) => {
            let (half, place) = (place.panel % 2, Place { panel: place.panel / 2, ..place });
            gate::avx512::lines(*gate, sums, bias, lines(to, place, range), half);
        }
        Output::Rotated(to, rotation) => {
            let angles = rotation.of_panel(place.panel, place.row + range.start);
            let to = lines(to, place, range).chunks_exact_mut(BLOCK);
            match angles {
                Some(angles) => rotate::avx512::lines(sums, bias, angles, to),
                None => sums.zip(to).for_each(|(sums, line)| store_bf16(line, masks, add(load(sums), bias))),
            }
        }
        Output::Rows(_) | Output::AddTo(_) => {}
    }
}

/// Writes `sums` plus `bias` to the begin of rows that are `width` apart.
#[inline]
#[target_feature(enable = "avx512f")]
fn into_rows(sums: ChunksExact<'_, f32>, bias: Pair, to: &mut [f32], width: usize, masks: Masks) {
    for (sums, to) in sums.zip(to.chunks_mut(width)) {
        store(&mut to[..masks.count()], masks, add(load(sums), bias));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(from: &[f32]) -> Pair {
    let from = &from[..BLOCK];
    // SAFETY: the slice has 32 values.
    unsafe { [_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from.as_ptr().add(16))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add(values: Pair, others: Pair) -> Pair {
    [_mm512_add_ps(values[0], others[0]), _mm512_add_ps(values[1], others[1])]
}

/// `to` is as long as `masks` have bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(to: &mut [f32], masks: Masks, values: Pair) {
    // SAFETY: masked lanes are not written, and the others lie in the slice; the pointer of the second half is only
    // used for lanes that exist.
    unsafe {
        _mm512_mask_storeu_ps(to.as_mut_ptr(), masks.0[0], values[0]);
        _mm512_mask_storeu_ps(to.as_mut_ptr().wrapping_add(16), masks.0[1], values[1]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_to(to: &mut [f32], masks: Masks, values: Pair) {
    // SAFETY: as in `store`; masked lanes are not read either.
    let before = unsafe {
        [
            _mm512_maskz_loadu_ps(masks.0[0], to.as_ptr()),
            _mm512_maskz_loadu_ps(masks.0[1], to.as_ptr().wrapping_add(16)),
        ]
    };
    store(to, masks, add(before, values));
}

fn rows_of(activations: &mut Activations) -> &mut [f32] {
    match &mut activations.layout {
        Layout::Rows(values) => values,
        Layout::Blocks { .. } => unreachable!("the tier of the output was checked"),
    }
}

/// The lines of the rows `range` of `place`.
#[inline]
fn lines(activations: &mut Activations, place: Place, range: Range<usize>) -> &mut [u16] {
    match &mut activations.layout {
        Layout::Blocks { values, stride } => {
            let first = place.panel * *stride + place.row;
            &mut values[(first + range.start) * BLOCK..(first + range.end) * BLOCK]
        }
        Layout::Rows(_) => unreachable!("the tier of the output was checked"),
    }
}

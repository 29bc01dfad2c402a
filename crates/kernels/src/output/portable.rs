//! Finishing sums in plain Rust, 32 columns at a time, written so that the compiler makes vectors of them.

use super::{Ending, Place, Sink, gate, rotate};
use crate::activations::BLOCK;
use crate::gelu::gelu;
use crate::multiply_add::{MultiplyAdd, Separate};

/// Finishes the sums `(rows, 32)` of `place`, whose rows are `stride` apart, for a tier whose activations are f32 rows.
///
/// # Safety
/// Nobody else uses this place of the output meanwhile.
pub(crate) unsafe fn finish(sink: Sink<'_>, place: Place, sums: (&[f32], usize), bias: &[f32]) {
    // SAFETY: as the caller says.
    unsafe { finish_with::<Separate>(sink, place, sums, bias) }
}

/// The same on a CPU with AVX2.
///
/// # Safety
/// As of [`finish`]; the CPU has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn finish_avx2(sink: Sink<'_>, place: Place, sums: (&[f32], usize), bias: &[f32]) {
    // SAFETY: as the caller says.
    unsafe { finish_with::<crate::multiply_add::Fused>(sink, place, sums, bias) }
}

#[inline(always)]
unsafe fn finish_with<M: MultiplyAdd>(
    sink: Sink<'_>,
    place: Place,
    (sums, stride): (&[f32], usize),
    bias: &[f32],
) {
    let columns = sink.columns(place.panel);
    let bias = &bias[place.panel * BLOCK..][..BLOCK];
    for (row, sums) in sums.chunks(stride).take(place.rows).enumerate() {
        let mut values = [0.0; BLOCK];
        for ((value, sum), bias) in values.iter_mut().zip(sums).zip(bias) {
            *value = sum + bias;
        }
        let place = Place { row: place.row + row, rows: 1, ..place };
        // SAFETY: as the caller says.
        let to = unsafe { sink.row_part(place) };
        match sink.ending {
            Ending::Rows | Ending::Activations => write(to, &values),
            Ending::AddTo if columns == BLOCK => add(to, &values),
            Ending::AddTo => to.iter_mut().zip(&values).for_each(|(to, value)| *to += value),
            Ending::Gelu => {
                // Not `map`, which is not always made part of the code for this CPU.
                for value in &mut values {
                    *value = gelu::<M>(*value);
                }
                write(to, &values);
            }
            Ending::Gated(gate) => gate::portable::<M>(gate, &values, to),
            Ending::Rotated(rotation) => {
                if let Some(angles) = rotation.of_panel(place.panel, place.row) {
                    rotate::portable::<M>(&mut values, angles);
                }
                write(to, &values);
            }
        }
    }
}

impl<'a> Sink<'a> {
    /// The f32 of one row that come out of a panel.
    ///
    /// # Safety
    /// As of [`finish`].
    unsafe fn row_part(&self, place: Place) -> &'a mut [f32] {
        let is_gated = matches!(self.ending, Ending::Gated(_));
        let columns = if is_gated { gate::HALF } else { self.columns(place.panel) };
        // SAFETY: the place is within the output, whose rows are f32, and the caller says that it is used here alone.
        unsafe { std::slice::from_raw_parts_mut(self.at(place).cast(), columns) }
    }
}

/// The first of `values`, as many as there is room for: mostly all, whose number the compiler then knows.
#[inline(always)]
fn write(to: &mut [f32], values: &[f32; BLOCK]) {
    match <&mut [f32; BLOCK]>::try_from(&mut *to) {
        Ok(to) => *to = *values,
        Err(_) => to.iter_mut().zip(values).for_each(|(to, value)| *to = *value),
    }
}

#[inline(always)]
fn add(to: &mut [f32], values: &[f32; BLOCK]) {
    to[..BLOCK].iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

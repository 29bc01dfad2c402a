//! Finishing sums in plain Rust, 32 columns at a time, written so that the compiler makes vectors of them.

use super::{Ending, Gate, Place, Sink, gate, rotate};
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
unsafe fn finish_with<M: MultiplyAdd>(sink: Sink<'_>, place: Place, sums: (&[f32], usize), bias: &[f32]) {
    // SAFETY: as the caller says.
    unsafe {
        match sink.ending {
            Ending::Rows | Ending::Activations => finish_rows::<M>(Written, sink, place, sums, bias),
            Ending::AddTo => finish_rows::<M>(Added, sink, place, sums, bias),
            Ending::Gelu => finish_rows::<M>(Gelu, sink, place, sums, bias),
            Ending::Gated(gate) => finish_rows::<M>(gate, sink, place, sums, bias),
            Ending::Rotated(rotation) => match rotation.of_panel(place.panel, place.row) {
                Some(angles) => {
                    finish_rows::<M>(Turned { angles, width: rotation.width }, sink, place, sums, bias);
                }
                None => finish_rows::<M>(Written, sink, place, sums, bias),
            },
        }
    }
}

/// What becomes of the sums of a row, bias added.
trait Finish {
    /// `index` is counted from the first row of the place.
    fn row<M: MultiplyAdd>(&self, values: [f32; BLOCK], index: usize, to: &mut [f32]);
}

/// Each kind by itself, so that none asks at each row what it is.
///
/// # Safety
/// As of [`finish`].
#[inline(always)]
unsafe fn finish_rows<M: MultiplyAdd>(
    finish: impl Finish,
    sink: Sink<'_>,
    place: Place,
    (sums, stride): (&[f32], usize),
    bias: &[f32],
) {
    let bias = &bias[place.panel * BLOCK..][..BLOCK];
    for (index, sums) in sums.chunks(stride).take(place.rows).enumerate() {
        let mut values = [0.0; BLOCK];
        for ((value, sum), bias) in values.iter_mut().zip(&sums[..BLOCK]).zip(bias) {
            *value = sum + bias;
        }
        // SAFETY: as the caller says.
        let to = unsafe { sink.row_part(Place { row: place.row + index, rows: 1, ..place }) };
        finish.row::<M>(values, index, to);
    }
}

struct Written;

struct Added;

struct Gelu;

/// Turned by the angles of the first row and those behind them, `width` apart.
struct Turned<'a> {
    angles: &'a [f32],
    width: usize,
}

impl Finish for Written {
    #[inline(always)]
    fn row<M: MultiplyAdd>(&self, values: [f32; BLOCK], _index: usize, to: &mut [f32]) {
        write(to, &values);
    }
}

impl Finish for Added {
    #[inline(always)]
    fn row<M: MultiplyAdd>(&self, mut values: [f32; BLOCK], _index: usize, to: &mut [f32]) {
        // A copy, of which the compiler knows that it lies elsewhere than what is written.
        let mut before = [0.0; BLOCK];
        match <&[f32; BLOCK]>::try_from(&*to) {
            Ok(to) => before = *to,
            Err(_) => before.iter_mut().zip(&*to).for_each(|(before, to)| *before = *to),
        }
        values.iter_mut().zip(before).for_each(|(value, before)| *value += before);
        write(to, &values);
    }
}

impl Finish for Gelu {
    #[inline(always)]
    fn row<M: MultiplyAdd>(&self, mut values: [f32; BLOCK], _index: usize, to: &mut [f32]) {
        // Not `map`, which is not always made part of the code for this CPU.
        for value in &mut values {
            *value = gelu::<M>(*value);
        }
        write(to, &values);
    }
}

impl Finish for Gate {
    #[inline(always)]
    fn row<M: MultiplyAdd>(&self, values: [f32; BLOCK], _index: usize, to: &mut [f32]) {
        gate::portable::<M>(*self, &values, to);
    }
}

impl Finish for Turned<'_> {
    #[inline(always)]
    fn row<M: MultiplyAdd>(&self, mut values: [f32; BLOCK], index: usize, to: &mut [f32]) {
        rotate::portable::<M>(&mut values, &self.angles[index * self.width..]);
        write(to, &values);
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

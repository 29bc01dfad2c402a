//! Finishing sums in plain Rust.

use super::{Ending, Place, Sink, gate, rotate};
use crate::activations::BLOCK;
use crate::gelu::gelu;

/// Finishes the sums `(rows, 32)` of `place`, whose rows are `stride` apart, for a tier whose activations are f32 rows.
///
/// # Safety
/// Nobody else uses this place of the output meanwhile.
pub(crate) unsafe fn finish(sink: Sink<'_>, place: Place, (sums, stride): (&[f32], usize), bias: &[f32]) {
    let columns = sink.columns(place.panel);
    let bias = &bias[place.panel * BLOCK..][..columns];
    for (row, sums) in sums.chunks(stride).take(place.rows).enumerate() {
        let values = sums.iter().zip(bias).map(|(sum, bias)| sum + bias);
        let place = Place { row: place.row + row, rows: 1, ..place };
        // SAFETY: as the caller says.
        let to = unsafe { sink.row_part(place) };
        match sink.ending {
            Ending::Rows | Ending::Activations => write(to, values),
            Ending::AddTo => to.iter_mut().zip(values).for_each(|(to, value)| *to += value),
            Ending::Gelu => write(to, values.map(gelu)),
            Ending::Gated(gate) => gate::portable(gate, &panel_row(values), to),
            Ending::Rotated(rotation) => {
                let mut values = panel_row(values);
                if let Some(angles) = rotation.of_panel(place.panel, place.row) {
                    rotate::portable(&mut values, angles);
                }
                to.copy_from_slice(&values[..columns]);
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

/// The values of a row of a panel, zeros behind the last.
fn panel_row(values: impl Iterator<Item = f32>) -> [f32; BLOCK] {
    let mut row = [0.0; BLOCK];
    write(&mut row, values);
    row
}

fn write(to: &mut [f32], values: impl Iterator<Item = f32>) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to = value);
}

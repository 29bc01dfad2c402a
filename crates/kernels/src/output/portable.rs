//! Finishing sums in plain Rust.

use super::{Output, Place, Sink, gate, rotate};
use crate::activations::{Activations, BLOCK, Layout};
use crate::gelu::gelu;

/// Finishes the sums `(rows, 32)` of `place`, whose rows are `stride` apart.
pub(crate) fn finish(sink: &mut Sink<'_>, place: Place, (sums, stride): (&[f32], usize), bias: &[f32]) {
    let columns = sink.columns(place.panel);
    let bias = &bias[place.panel * BLOCK..][..columns];
    for (row, sums) in sums.chunks(stride).take(place.rows).enumerate() {
        let values = sums.iter().zip(bias).map(|(sum, bias)| sum + bias);
        let start = (place.row + row) * sink.width + place.panel * BLOCK;
        match &mut sink.output {
            Output::Rows(to) => write(&mut to[start..][..columns], values),
            Output::AddTo(to) => {
                to[start..][..columns].iter_mut().zip(values).for_each(|(to, value)| *to += value);
            }
            Output::Activations(to) => write(&mut rows_of(to)[start..][..columns], values),
            Output::Gelu(to) => write(&mut rows_of(to)[start..][..columns], values.map(gelu)),
            Output::Gated(to, gate) => {
                let start = start / 2;
                gate::portable(*gate, &panel_row(values), &mut rows_of(to)[start..][..gate::HALF]);
            }
            Output::Rotated(to, rotation) => {
                let mut values = panel_row(values);
                if let Some(angles) = rotation.of_panel(place.panel, place.row + row) {
                    rotate::portable(&mut values, angles);
                }
                rows_of(to)[start..][..columns].copy_from_slice(&values[..columns]);
            }
        }
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

fn rows_of(activations: &mut Activations) -> &mut [f32] {
    match &mut activations.layout {
        Layout::Rows(values) => values,
        Layout::Blocks { .. } => unreachable!("the tier of the output was checked"),
    }
}

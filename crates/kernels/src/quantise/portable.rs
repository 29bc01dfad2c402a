//! Quantising in plain Rust.

use std::ops::Range;

use super::{Form, LINE, Lines, Scale, size_bits};
use crate::activations::{Activations, Layout};

/// Quantises `rows` of f32.
pub(super) fn fill(input: &Activations, rows: Range<usize>, mut to: Lines<'_>) {
    let Layout::Rows(values) = &input.layout else { unreachable!("portable code has rows of f32") };
    let width = input.width();
    let values = &values[rows.start * width..rows.end * width];
    for (row, values) in values.chunks_exact(width).enumerate() {
        let scale = Scale::of(values.iter().copied().map(size_bits).fold(0, u32::max));
        to.scales[row] = scale.scale;
        let form = to.form;
        for (block, values) in values.chunks(LINE).enumerate() {
            let line = to.line(block, row);
            for (to, value) in line.chunks_exact_mut(form.line_bytes() / LINE).zip(values) {
                let whole = scale.quantise(*value);
                match form {
                    Form::Signed | Form::Raised => to[0] = whole.cast_unsigned() ^ form.flip(),
                    Form::Wide => to.copy_from_slice(&i16::from(whole).to_le_bytes()),
                    #[cfg(target_arch = "x86_64")]
                    Form::Fine => unreachable!("fine numbers are made of lines of bf16"),
                }
            }
        }
    }
}

//! Quantising in plain Rust.

use std::ops::Range;

use super::{LINE, Lines, Scale, size_bits};
use crate::activations::{Activations, Layout};

/// Quantises `rows` of f32.
pub(super) fn fill(input: &Activations, rows: Range<usize>, mut to: Lines<'_>) {
    let Layout::Rows(values) = &input.layout else { unreachable!("portable code has rows of f32") };
    let width = input.width();
    let values = &values[rows.start * width..rows.end * width];
    for (row, values) in values.chunks_exact(width).enumerate() {
        let scale = Scale::of(values.iter().copied().map(size_bits).fold(0, u32::max));
        to.scales[row] = scale.scale;
        let flip = to.flip;
        for (block, values) in values.chunks(LINE).enumerate() {
            let line = to.line(block, row).iter_mut();
            line.zip(values).for_each(|(to, value)| *to = scale.quantise(*value).cast_unsigned() ^ flip);
        }
    }
}

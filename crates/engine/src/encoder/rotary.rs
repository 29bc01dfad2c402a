//! Rotary positions: the angles by which queries and keys are turned, for each token of a pass.

use super::columns::{self, HALF};
use crate::config::{NtkScaling, Rotary, Shape};

/// Angles of one way of turning.
pub(super) struct Angles {
    rotary: Rotary,
    head_width: usize,
    /// `(positions, columns of a head)`, for texts as long as those of the training.
    table: Vec<f32>,
}

impl Angles {
    pub(super) fn new(rotary: Rotary, shape: &Shape) -> Self {
        let head_width = shape.head_width();
        let tokens = rotary.scaling.map_or(shape.tokens_max, |scaling| scaling.trained.min(shape.tokens_max));
        let mut table = Vec::with_capacity(tokens * columns::padded(head_width));
        append(tokens, f64::from(rotary.base), head_width, &mut table);
        Self { rotary, head_width, table }
    }

    /// Replaces `to` by the angles of texts of `lengths` tokens, in the order in which the kernel takes them.
    pub(super) fn fill(&self, lengths: &[usize], to: &mut Vec<f32>) {
        to.clear();
        let width = columns::padded(self.head_width);
        for &tokens in lengths {
            match self.rotary.scaling {
                Some(scaling) if tokens > scaling.trained => {
                    append(tokens, self.scaled_base(scaling, tokens), self.head_width, to);
                }
                _ => to.extend_from_slice(&self.table[..tokens * width]),
            }
        }
    }

    /// The base for a text of `tokens`. The model's own code keeps the base of the longest text it has seen; this one
    /// depends on the text alone.
    fn scaled_base(&self, scaling: NtkScaling, tokens: usize) -> f64 {
        let (factor, width) = (f64::from(scaling.factor), self.head_width as f64);
        let stretch = factor * tokens as f64 / scaling.trained as f64 - (factor - 1.0);
        f64::from(self.rotary.base) * stretch.powf(width / (width - 2.0))
    }
}

/// Appends the angles of positions `0..tokens`: for each sixteen pairs their cosines, then their sines. Frequencies and
/// angles are rounded to f32 where the models' own code rounds them.
#[expect(clippy::cast_possible_truncation, reason = "rounded to f32 as the models' own code does")]
fn append(tokens: usize, base: f64, head_width: usize, to: &mut Vec<f32>) {
    let frequency = |pair: usize| {
        let exponent = (2 * pair) as f32 / head_width as f32;
        1.0 / base.powf(f64::from(exponent)) as f32
    };
    let frequencies: Vec<f32> = (0..columns::padded(head_width) / 2).map(frequency).collect();
    for position in 0..tokens {
        for frequencies in frequencies.chunks_exact(HALF) {
            let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            to.extend(angles.clone().map(|angle| angle.cos() as f32));
            to.extend(angles.map(|angle| angle.sin() as f32));
        }
    }
}

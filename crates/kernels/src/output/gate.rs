//! Gated outputs: of each panel the first sixteen columns, times the activation of the sixteen others.

use crate::activations::BLOCK;
use crate::gelu::gelu;
use crate::multiply_add::MultiplyAdd;
use crate::silu::silu;

/// Columns of the result of one panel.
pub(crate) const HALF: usize = BLOCK / 2;

/// What the gating columns go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `v / (1 + e⁻ᵛ)`: SwiGLU.
    Silu,
    /// The exact GELU: GeGLU.
    Gelu,
}

impl Gate {
    /// Where row `row` of two layers of `outputs` each, the gated and the gating, comes from when both are stored as
    /// one of `2 · outputs` rows: sixteen of the one, then sixteen of the other, as [`Output::Gated`] wants them.
    ///
    /// [`Output::Gated`]: crate::Output::Gated
    #[must_use]
    pub fn order(outputs: usize) -> Vec<usize> {
        let groups = (0..outputs).step_by(HALF);
        groups
            .flat_map(|first| {
                let group = first..(first + HALF).min(outputs);
                group.clone().chain(group.map(move |row| outputs + row))
            })
            .collect()
    }
}

/// Gates the sums of one row of a panel, bias added: `(32)` to `(16)`.
#[inline(always)]
pub(super) fn portable<M: MultiplyAdd>(gate: Gate, values: &[f32; BLOCK], to: &mut [f32]) {
    let (plain, gating) = values.split_at(HALF);
    for (to, (value, gating)) in to[..HALF].iter_mut().zip(plain.iter().zip(gating)) {
        let through = match gate {
            Gate::Silu => silu::<M>(*gating),
            Gate::Gelu => gelu::<M>(*gating),
        };
        *to = value * through;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_takes_sixteen_rows_of_each_layer_in_turn() {
        let order = Gate::order(32);
        assert_eq!(order.len(), 64);
        assert_eq!(order[..17], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 32]);
        assert_eq!(order[32], 16);
        assert_eq!(order[63], 63);
    }
}

//! What one pass writes to.

use kernels::{Activations, Scratch, Tier};

use super::columns;
use crate::config::Shape;

/// Buffers are made for a multiple of so many tokens, so that passes of a few more need no new ones.
const TOKENS_STEP: usize = 64;

/// Widths of what is kept for each token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    /// Columns of all heads, padding included.
    heads: usize,
    /// Columns of one, padding included.
    head: usize,
    intermediate: usize,
    rotaries: usize,
}

impl Sizes {
    pub(super) fn of(shape: &Shape) -> Self {
        let head = columns::padded(shape.head_width());
        Self {
            hidden: shape.hidden,
            heads: shape.heads * head,
            head,
            intermediate: shape.intermediate,
            rotaries: shape.rotaries.len(),
        }
    }
}

/// What one pass writes to. It grows to the largest pass it has seen.
pub(super) struct Buffers {
    tokens_max: usize,
    /// `(tokens, hidden)`: the residual stream.
    pub(super) rows: Vec<f32>,
    /// Tokens of each text.
    pub(super) lengths: Vec<usize>,
    /// For each way of turning, `(tokens, columns of a head)`.
    pub(super) angles: Vec<Vec<f32>>,
    /// The normed rows, input of a block.
    pub(super) normed: Activations,
    pub(super) qkv: Activations,
    /// What attention has gathered, columns of all heads.
    pub(super) context: Activations,
    pub(super) raised: Activations,
    /// One for each thread of the pass.
    scratches: Vec<Scratch>,
}

impl Buffers {
    pub(super) fn new(tier: Tier, sizes: &Sizes, tokens: usize) -> Self {
        let tokens_max = tokens.next_multiple_of(TOKENS_STEP);
        let activations = |width| Activations::new(tier, tokens_max, width);
        Self {
            tokens_max,
            rows: Vec::with_capacity(tokens_max * sizes.hidden),
            lengths: Vec::new(),
            angles: vec![Vec::with_capacity(tokens_max * sizes.head); sizes.rotaries],
            normed: activations(sizes.hidden),
            qkv: activations(3 * sizes.heads),
            context: activations(sizes.heads),
            raised: activations(sizes.intermediate),
            scratches: Vec::new(),
        }
    }

    /// Takes the scratches out, as many as a crew of `members` needs.
    pub(super) fn take_scratches(&mut self, tier: Tier, sizes: &Sizes, members: usize) -> Vec<Scratch> {
        let mut scratches = std::mem::take(&mut self.scratches);
        let missing = scratches.len()..members;
        scratches.extend(missing.map(|_| Scratch::new(tier, self.tokens_max, sizes.head)));
        scratches
    }

    /// Gives them back.
    pub(super) fn put_scratches(&mut self, scratches: Vec<Scratch>) {
        self.scratches = scratches;
    }

    /// Whether there is room for so many tokens.
    pub(super) fn fit(&self, tokens: usize) -> bool {
        tokens <= self.tokens_max
    }
}

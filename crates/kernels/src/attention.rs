//! Attention of each text and head over packed tokens: softmax(Q · Kᵀ / √width + bias) · V.
//!
//! ```text
//!  qkv (tokens, 3 · hidden) ─┬─ keys, values of a text and head ─▶ packed as weights are
//!                            └─ 32 queries ─▶ scores (32, keys in sight) ─▶ + bias ─▶ softmax ─▶ · values ─▶ out (tokens, hidden)
//! ```
//! Scores and sums are f32. A text sees its own tokens only, and of those the ones in the window where there is one.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod panels;
mod portable;
mod sight;
#[cfg(target_arch = "x86_64")]
mod softmax;

use crate::activations::{Activations, BLOCK, Layout};
#[cfg(target_arch = "x86_64")]
use crate::linear::amx::Tiles;
use crate::scratch::Scratch;
#[cfg(target_arch = "x86_64")]
use crate::tier::Kind;

pub use sight::RelativeBias;

/// The heads of a layer, and what a token sees through them.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// How many there are.
    pub count: usize,
    /// Columns of one, a multiple of 32.
    pub width: usize,
    /// What a score is multiplied by: one over the root of the columns that are not padding.
    pub scale: f32,
    /// How many tokens to each side are seen; all where there is none.
    pub window: Option<usize>,
    /// What is added to a scaled score.
    pub bias: Option<&'a RelativeBias>,
}

impl Heads<'_> {
    /// Heads without padding, through which each token sees all others.
    #[must_use]
    pub fn new(count: usize, width: usize) -> Self {
        Self { count, width, scale: 1.0 / (width as f32).sqrt(), window: None, bias: None }
    }

    fn hidden(self) -> usize {
        self.count * self.width
    }

    /// What scores are multiplied by, times log₂ e: softmax is then a power of two.
    fn scale(self) -> f32 {
        std::f32::consts::LOG2_E * self.scale
    }
}

/// One text and head: where it lies.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    head: usize,
    /// First token of the text, and how many there are.
    start: usize,
    tokens: usize,
    /// First columns of queries, keys and values.
    columns: [usize; 3],
    heads: Heads<'a>,
}

/// Computes the attention of texts of `lengths` tokens, which lie one after another in `qkv`
/// `(tokens, 3 · heads · width)`: the queries of all heads, then the keys, then the values. `out` becomes
/// `(tokens, heads · width)`.
///
/// # Panics
/// If the shapes do not fit, a head is no multiple of 32 wide, a text is longer than the scratch or the bias was made
/// for, or something was made for another tier.
pub fn attention(
    qkv: &Activations,
    lengths: &[usize],
    heads: Heads<'_>,
    out: &mut Activations,
    scratch: &mut Scratch,
) {
    let hidden = heads.hidden();
    assert!(heads.width.is_multiple_of(BLOCK) && hidden > 0, "heads of {} columns", heads.width);
    assert_eq!(qkv.width(), 3 * hidden, "width of queries, keys and values");
    assert_eq!(lengths.iter().sum::<usize>(), qkv.rows(), "tokens of all texts");
    assert!(qkv.tier() == out.tier() && qkv.tier() == scratch.tier(), "one tier for all");
    out.reshape(qkv.rows(), hidden);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the tier proves that there are tiles.
    let _tiles = (qkv.tier().kind() == Kind::AmxBf16).then(|| unsafe { Tiles::configure() });
    let mut start = 0;
    for &tokens in lengths.iter().filter(|tokens| **tokens > 0) {
        scratch.assert_room(tokens, heads.width);
        heads.bias.inspect(|bias| bias.assert_room(tokens, heads.count));
        for head in 0..heads.count {
            let columns = [0, 1, 2].map(|part| part * hidden + head * heads.width);
            attend(qkv, Part { head, start, tokens, columns, heads }, out, scratch);
        }
        start += tokens;
    }
}

fn attend(qkv: &Activations, part: Part<'_>, out: &mut Activations, scratch: &mut Scratch) {
    match (&qkv.layout, &mut out.layout) {
        #[cfg(target_arch = "x86_64")]
        (Layout::Blocks { values, stride }, Layout::Blocks { values: out, stride: out_stride }) => {
            let (qkv, out) = (amx::Lines(values, *stride), amx::LinesMut(out, *out_stride));
            // SAFETY: blocks are the layout of the tier with AMX bf16 only, and a tier proves that the CPU has it; the tiles
            // were configured above.
            unsafe { amx::attend(qkv, part, out, scratch) }
        }
        #[cfg(target_arch = "x86_64")]
        (Layout::Rows(values), Layout::Rows(out)) if scratch.tier().kind() == Kind::Avx512 => {
            panels::attend(values, part, out, scratch);
        }
        (Layout::Rows(values), Layout::Rows(out)) => portable::attend(values, part, out, scratch),
        _ => unreachable!("the tiers were compared"),
    }
}

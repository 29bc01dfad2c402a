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
mod bf16;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod panels;
mod portable;
mod sight;
mod softmax;
#[cfg(target_arch = "x86_64")]
mod whole;

use std::ops::Range;

use crate::activations::{Activations, BLOCK, Layout, SharedLayout};
use crate::crew::Team;
#[cfg(target_arch = "x86_64")]
use crate::linear::amx::Tiles;
use crate::scratch::Scratch;
#[cfg(target_arch = "x86_64")]
use crate::scratch::Text;
#[cfg(target_arch = "x86_64")]
use crate::shared::SharedSlice;
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

/// Blocks of bf16, and how many lines a block has.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct Lines<'a>(&'a [u16], usize);

/// The same to write to.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct LinesMut<'a>(SharedSlice<'a, u16>, usize);

#[cfg(target_arch = "x86_64")]
impl<'a> Lines<'a> {
    /// The lines of a block from `row` on.
    fn from(self, column: usize, row: usize) -> &'a [u16] {
        &self.0[(column / BLOCK * self.1 + row) * BLOCK..]
    }
}

#[cfg(target_arch = "x86_64")]
impl<'a> LinesMut<'a> {
    /// `rows` lines of a block from `row` on.
    ///
    /// # Safety
    /// Nobody else uses these lines while the result is in use.
    unsafe fn lines(self, column: usize, row: usize, rows: usize) -> &'a mut [u16] {
        let first = column / BLOCK * self.1 + row;
        // SAFETY: as the caller says.
        unsafe { self.0.part(first * BLOCK..(first + rows) * BLOCK) }
    }
}

/// Shares of each member, so that those who are done early find something to do.
const SHARES_EACH: usize = 4;

/// Computes the attention of texts of `lengths` tokens, which lie one after another in `qkv`
/// `(tokens, 3 · heads · width)`: the queries of all heads, then the keys, then the values. `out` becomes
/// `(tokens, heads · width)`. `team` is a [`Scratch`] or a [`Team`], whose members take heads of texts.
///
/// # Panics
/// If the shapes do not fit, a head is no multiple of 32 wide, a text is longer than the scratch or the bias was made
/// for, or something was made for another tier.
pub fn attention<'t>(
    qkv: &Activations,
    lengths: &[usize],
    heads: Heads<'_>,
    out: &mut Activations,
    team: impl Into<Team<'t>>,
) {
    let mut team = team.into();
    let hidden = heads.hidden();
    assert!(heads.width.is_multiple_of(BLOCK) && hidden > 0, "heads of {} columns", heads.width);
    assert_eq!(qkv.width(), 3 * hidden, "width of queries, keys and values");
    assert_eq!(lengths.iter().sum::<usize>(), qkv.rows(), "tokens of all texts");
    let tier = qkv.tier();
    assert!(tier == out.tier() && tier == team.scratch().tier(), "one tier for all");
    for &tokens in lengths {
        team.scratch().assert_room(tokens, heads.width);
        heads.bias.inspect(|bias| bias.assert_room(tokens, heads.count));
    }
    out.reshape(qkv.rows(), hidden);
    let out = out.shared();
    let parts = lengths.len() * heads.count;
    let share = match team.members() {
        1 => parts.max(1),
        members => parts.div_ceil(members * SHARES_EACH).max(1),
    };
    team.each(parts.div_ceil(share), |index, scratch| {
        let range = index * share..parts.min((index + 1) * share);
        // SAFETY: no two shares have a head of a text in common.
        unsafe { attend_share(qkv, lengths, (heads, range), out, scratch) }
    });
}

/// Heads of texts: the number of a text times that of heads, and the number of the head.
///
/// # Safety
/// Nobody else writes to these columns of these texts.
unsafe fn attend_share(
    qkv: &Activations,
    lengths: &[usize],
    (heads, range): (Heads<'_>, Range<usize>),
    out: SharedLayout<'_>,
    scratch: &mut Scratch,
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the tier proves that there are tiles.
    let _tiles = (qkv.tier().kind() == Kind::AmxBf16).then(|| unsafe { Tiles::configure() });
    let mut start = lengths.iter().take(range.start / heads.count).sum();
    for index in range {
        let (text, head) = (index / heads.count, index % heads.count);
        let tokens = lengths[text];
        let columns = [0, 1, 2].map(|part| part * heads.hidden() + head * heads.width);
        if tokens > 0 {
            // SAFETY: as the caller says; the tiles are configured where there are any.
            unsafe { attend(qkv, Part { head, start, tokens, columns, heads }, out, scratch) };
        }
        if head + 1 == heads.count {
            start += tokens;
        }
    }
}

/// # Safety
/// Nobody else writes to this part of `out`, and tiles are configured where the tier has some.
unsafe fn attend(qkv: &Activations, part: Part<'_>, out: SharedLayout<'_>, scratch: &mut Scratch) {
    // SAFETY: as the caller says. Blocks are the layout of tiers of sixteen bits in AVX-512 or tiles only, panels that of AVX-512
    // and AVX2; a tier proves that the CPU has it.
    unsafe {
        match (&qkv.layout, out) {
            #[cfg(target_arch = "x86_64")]
            (Layout::Blocks { values, stride }, SharedLayout::Blocks { values: out, stride: out_stride }) => {
                let (qkv, out) = (Lines(values, *stride), LinesMut(out, out_stride));
                let tier = scratch.tier();
                if tier.kind() == Kind::AmxBf16 {
                    amx::attend(qkv, part, out, scratch);
                } else if tier.multiplies_whole_numbers() {
                    whole::attend(qkv, part, out, scratch);
                } else {
                    bf16::attend(qkv, part, out, scratch);
                }
            }
            #[cfg(target_arch = "x86_64")]
            (Layout::Rows(values), SharedLayout::Rows(out)) if scratch.tier().multiplies_whole_numbers() => {
                whole::avx2::attend(values, part, out, scratch);
            }
            #[cfg(target_arch = "x86_64")]
            (Layout::Rows(values), SharedLayout::Rows(out))
                if matches!(scratch.text, Text::Panels { .. }) =>
            {
                panels::attend(values, part, out, scratch);
            }
            (Layout::Rows(values), SharedLayout::Rows(out)) => portable::attend(values, part, out, scratch),
            _ => unreachable!("the tiers were compared"),
        }
    }
}

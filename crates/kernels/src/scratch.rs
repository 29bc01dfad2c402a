//! Memory that kernels use while they run.

use crate::activations::BLOCK;
use crate::aligned::Aligned;
use crate::linear::{ROWS, ROWS_TOGETHER, TILE_ROWS_TOGETHER_MAX, portable};
use crate::quantise::Quantised;
use crate::tier::{Kind, PanelKind, Tier};

/// What one thread needs beside inputs and outputs. Taken once; kernels never allocate.
#[derive(Debug)]
pub struct Scratch {
    tier: Tier,
    tokens_max: usize,
    head_width: usize,
    /// Sums of a product before they are finished: blocks of `(32, 32)`.
    pub(crate) sums: Aligned<f32>,
    /// The same of a product of int8.
    pub(crate) whole_sums: Aligned<i32>,
    /// The rows that are multiplied with int8; takes no memory where none are.
    pub(crate) quantised: Quantised,
    /// Scores of 32 queries against all keys of a text.
    pub(crate) scores: Aligned<f32>,
    pub(crate) text: Text,
}

/// The keys and values of one text and head, packed as weights are, and the weights of sixteen queries.
#[derive(Debug)]
pub(crate) enum Text {
    Tiles {
        keys: Aligned<u16>,
        values: Aligned<u16>,
        weights: Aligned<u16>,
        /// Twelve queries as whole numbers, in the tiers that multiply those.
        whole: Option<Aligned<u16>>,
    },
    Panels {
        kind: PanelKind,
        keys: Aligned<f32>,
        values: Aligned<f32>,
    },
    /// Read where they lie.
    InPlace,
}

impl Scratch {
    /// For texts of up to `tokens_max` tokens and heads of `head_width` columns.
    #[must_use]
    pub fn new(tier: Tier, tokens_max: usize, head_width: usize) -> Self {
        let tokens = tokens_max.next_multiple_of(BLOCK);
        let packed = tokens * head_width.next_multiple_of(BLOCK);
        let panels =
            |kind| Text::Panels { kind, keys: Aligned::zeros(packed), values: Aligned::zeros(packed) };
        let text = match tier.kind() {
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx2Int16 => Text::Tiles {
                keys: Aligned::zeros(packed),
                values: Aligned::zeros(packed),
                weights: Aligned::zeros(tokens * BLOCK / 2),
                whole: tier
                    .multiplies_whole_numbers()
                    .then(|| Aligned::zeros(ROWS * head_width.next_multiple_of(BLOCK))),
            },
            Kind::Avx512 => panels(PanelKind::Avx512),
            Kind::Avx2 => panels(PanelKind::Avx2),
            Kind::Portable => Text::InPlace,
        };
        let sums = match tier.kind() {
            Kind::AmxBf16 => TILE_ROWS_TOGETHER_MAX * BLOCK,
            Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 => {
                ROWS_TOGETHER * BLOCK
            }
            Kind::Portable => (portable::ROWS * portable::COLUMNS).max(BLOCK * head_width),
        };
        Self {
            tier,
            tokens_max: tokens,
            head_width,
            sums: Aligned::zeros(sums),
            whole_sums: Aligned::zeros(BLOCK * BLOCK),
            quantised: Quantised::new(),
            scores: Aligned::zeros(tokens * BLOCK),
            text,
        }
    }

    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// # Panics
    /// If a text of `tokens` with heads of `head_width` needs more than was taken.
    pub(crate) fn assert_room(&self, tokens: usize, head_width: usize) {
        assert!(tokens <= self.tokens_max, "text of {tokens} tokens, scratch is for {}", self.tokens_max);
        assert!(head_width <= self.head_width, "head of {head_width}, scratch is for {}", self.head_width);
    }
}

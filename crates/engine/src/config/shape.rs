//! What an encoder computes, as plain data. The forward pass knows these and no kind of model.

use std::path::Path;

use crate::error::LoadError;

/// The shape of an encoder and where its weights are found.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    /// Most tokens of one text.
    pub(crate) tokens_max: usize,
    pub(crate) norm_epsilon: f32,
    /// Rows of the table of token types, of which the first is added to every token; 0 where there is no table.
    pub(crate) token_types: usize,
    /// Learned positions, where there are any.
    pub(crate) positions: Option<PositionTable>,
    pub(crate) norms: NormPlace,
    pub(crate) biases: Biases,
    pub(crate) feed_forward: FeedForward,
    pub(crate) relative: Option<RelativeBuckets>,
    /// Ways of turning queries and keys; layers name theirs.
    pub(crate) rotaries: Vec<Rotary>,
    pub(crate) layers: Vec<LayerShape>,
    pub(crate) names: &'static Names,
}

/// Learned positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PositionTable {
    pub(crate) rows: usize,
    pub(crate) counting: Counting,
}

/// Which row of the table a token takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counting {
    /// Its place in the text.
    FromZero,
    /// The padding token always takes the row of its own id; the n-th other token, from 1, the n-th row after that.
    FromPadding(u32),
}

/// Where norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormPlace {
    /// After each block, over the residual stream itself.
    AfterBlock,
    /// In front of each block, beside the residual stream, with one more over the stream at the end. The first block
    /// takes the normed embeddings as they are.
    BeforeBlock,
}

/// Whether there is a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Present,
    Absent,
}

impl Presence {
    pub(crate) fn of(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

/// Which layers have a bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Biases {
    pub(crate) attention: Presence,
    pub(crate) up: Presence,
    pub(crate) down: Presence,
    pub(crate) norm: Presence,
}

impl Biases {
    pub(crate) const ALL: Self = Self {
        attention: Presence::Present,
        up: Presence::Present,
        down: Presence::Present,
        norm: Presence::Present,
    };
}

/// What lies between the two products of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedForward {
    /// GELU.
    Gelu,
    /// The plain half of twice as many columns, times the SiLU of the other; the plain half is stored first.
    SwiGlu,
    /// The same with GELU; the half that goes through it is stored first.
    GeGlu,
}

/// A learned bias of scores by distance, the same in all layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelativeBuckets {
    pub(crate) buckets: usize,
    /// From this distance on all share the last bucket.
    pub(crate) distance_max: usize,
}

/// Positions as angles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotary {
    pub(crate) base: f32,
    pub(crate) pairs: Pairs,
    pub(crate) scaling: Option<NtkScaling>,
}

/// Which columns of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Column `i` of the first half and of the second, as GPT-NeoX has them.
    Halves,
    /// Columns `2i` and `2i + 1`, as GPT-J has them.
    Neighbours,
}

/// A larger base for texts longer than those of the training: `base · (factor · n / trained - factor + 1) ^ (d / (d - 2))`
/// for `n` tokens and heads of `d` columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NtkScaling {
    pub(crate) factor: f32,
    pub(crate) trained: usize,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LayerShape {
    /// Index in [`Shape::rotaries`].
    pub(crate) rotary: Option<usize>,
    /// How many tokens to each side are seen; all where there is none.
    pub(crate) window: Option<usize>,
}

/// Names of tensors, without `.weight` and `.bias`. Those of a layer follow `layer` and its number.
#[derive(Debug)]
pub(crate) struct Names {
    /// What stands in front of all: nothing in a bare encoder, a name where there is a head beside it.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) words: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) token_types: &'static str,
    pub(crate) embedding_norm: &'static str,
    pub(crate) relative: &'static str,
    pub(crate) layer: &'static str,
    /// Queries, keys and values: three tensors, or one that holds them one after another.
    pub(crate) qkv: &'static [&'static str],
    pub(crate) attention_out: &'static str,
    pub(crate) attention_norm: &'static str,
    /// One tensor, or two that are taken as one.
    pub(crate) up: &'static [&'static str],
    pub(crate) down: &'static str,
    pub(crate) down_norm: &'static str,
    pub(crate) final_norm: &'static str,
}

impl Shape {
    /// Values of one head.
    pub(crate) fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Refuses sizes that no encoder of any kind can have.
    pub(super) fn check(&self, file: &Path) -> Result<(), LoadError> {
        let invalid = |field, found: String, wanted: String| {
            Err(LoadError::InvalidConfig { file: file.to_owned(), field, found, wanted })
        };
        if !self.hidden.is_multiple_of(self.heads) {
            let wanted = format!("a multiple of num_attention_heads = {}", self.heads);
            return invalid("hidden_size", self.hidden.to_string(), wanted);
        }
        if !self.rotaries.is_empty() && !self.head_width().is_multiple_of(2) {
            let wanted = format!("a multiple of 2 · num_attention_heads = {}", 2 * self.heads);
            return invalid("hidden_size", self.hidden.to_string(), wanted);
        }
        if self.feed_forward != FeedForward::Gelu && !self.intermediate.is_multiple_of(16) {
            return invalid(
                "intermediate_size",
                self.intermediate.to_string(),
                "a multiple of 16".to_owned(),
            );
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return invalid("layer_norm_eps", self.norm_epsilon.to_string(), "a positive number".to_owned());
        }
        Ok(())
    }
}

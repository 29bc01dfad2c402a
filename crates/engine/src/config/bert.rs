//! BERT, and RoBERTa and XLM-RoBERTa, which are BERT with other positions.

use super::fields::Fields;
use super::shape::{Biases, Counting, FeedForward, LayerShape, Names, NormPlace, PositionTable, Shape};
use crate::error::LoadError;

static NAMES: Names = Names {
    prefixes: &["", "bert.", "roberta."],
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    token_types: "embeddings.token_type_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    relative: "",
    layer: "encoder.layer.",
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: &["intermediate.dense"],
    down: "output.dense",
    down_norm: "output.LayerNorm",
    final_norm: "",
};

/// BERT: positions count from 0.
pub(super) fn read_bert(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    let rows = fields.size("max_position_embeddings", 512)?;
    let positions = PositionTable { rows, counting: Counting::FromZero };
    let token_types = fields.size("type_vocab_size", 2)?;
    read(fields, Defaults { vocabulary: 30_522, token_types, tokens_max: rows }, positions)
}

/// RoBERTa: positions count from the padding token's id, so that the table has some rows more than there are positions.
pub(super) fn read_roberta(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    let rows = fields.size("max_position_embeddings", 512)?;
    let padding = fields.id("pad_token_id", 1)?;
    let tokens_max = rows.saturating_sub(padding as usize + 1);
    if tokens_max == 0 {
        let wanted = format!("more than pad_token_id + 1 = {}", u64::from(padding) + 1);
        return Err(fields.invalid("max_position_embeddings", rows, &wanted));
    }
    let positions = PositionTable { rows, counting: Counting::FromPadding(padding) };
    let token_types = fields.whole("type_vocab_size", 0, 2)?;
    read(fields, Defaults { vocabulary: 50_265, token_types, tokens_max }, positions)
}

struct Defaults {
    vocabulary: usize,
    token_types: usize,
    tokens_max: usize,
}

/// Absent fields have the defaults that transformers gives them.
fn read(fields: &Fields<'_>, defaults: Defaults, positions: PositionTable) -> Result<Shape, LoadError> {
    fields.only("position_embedding_type", &["absolute"])?;
    fields.only("hidden_act", &["gelu"])?;
    fields.off("is_decoder")?;
    Ok(Shape {
        vocabulary: fields.size("vocab_size", defaults.vocabulary)?,
        hidden: fields.size("hidden_size", 768)?,
        heads: fields.size("num_attention_heads", 12)?,
        intermediate: fields.size("intermediate_size", 3072)?,
        tokens_max: defaults.tokens_max,
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-12),
        token_types: defaults.token_types,
        positions: Some(positions),
        norms: NormPlace::AfterBlock,
        biases: Biases::ALL,
        feed_forward: FeedForward::Gelu,
        relative: None,
        rotaries: Vec::new(),
        layers: vec![LayerShape::default(); fields.size("num_hidden_layers", 12)?],
        names: &NAMES,
    })
}

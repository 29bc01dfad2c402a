//! DistilBERT: BERT without token types, under other names.

use super::fields::Fields;
use super::shape::{Biases, Counting, FeedForward, LayerShape, Names, NormPlace, PositionTable, Shape};
use crate::error::LoadError;

static NAMES: Names = Names {
    prefixes: &["", "distilbert."],
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    token_types: "",
    embedding_norm: "embeddings.LayerNorm",
    relative: "",
    layer: "transformer.layer.",
    qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: &["ffn.lin1"],
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
    final_norm: "",
};

/// Absent fields have the defaults that transformers gives them. Sinusoidal positions are stored as a table too.
pub(super) fn read(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    fields.only("activation", &["gelu"])?;
    let rows = fields.size("max_position_embeddings", 512)?;
    Ok(Shape {
        vocabulary: fields.size("vocab_size", 30_522)?,
        hidden: fields.size("dim", 768)?,
        heads: fields.size("n_heads", 12)?,
        intermediate: fields.size("hidden_dim", 3072)?,
        tokens_max: rows,
        norm_epsilon: 1e-12,
        token_types: 0,
        positions: Some(PositionTable { rows, counting: Counting::FromZero }),
        norms: NormPlace::AfterBlock,
        biases: Biases::ALL,
        feed_forward: FeedForward::Gelu,
        relative: None,
        rotaries: Vec::new(),
        layers: vec![LayerShape::default(); fields.size("n_layers", 6)?],
        names: &NAMES,
    })
}

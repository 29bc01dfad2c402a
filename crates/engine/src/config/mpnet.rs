//! MPNet: BERT with a learned bias of scores by distance, and no token types.

use super::fields::Fields;
use super::shape::{
    Biases, Counting, FeedForward, LayerShape, Names, NormPlace, PositionTable, RelativeBuckets, Shape,
};
use crate::error::LoadError;

static NAMES: Names = Names {
    prefixes: &["", "mpnet."],
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    token_types: "",
    embedding_norm: "embeddings.LayerNorm",
    relative: "encoder.relative_attention_bias",
    layer: "encoder.layer.",
    qkv: &["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attention_out: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    up: &["intermediate.dense"],
    down: "output.dense",
    down_norm: "output.LayerNorm",
    final_norm: "",
};

/// Whatever config.json says, MPNet's padding is token 1.
const PADDING: u32 = 1;
/// Distances are told apart up to here; config.json has no field for it.
const DISTANCE_MAX: usize = 128;

/// Absent fields have the defaults that transformers gives them.
pub(super) fn read(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    fields.only("hidden_act", &["gelu"])?;
    let rows = fields.size("max_position_embeddings", 512)?;
    let tokens_max = rows.saturating_sub(PADDING as usize + 1);
    if tokens_max == 0 {
        return Err(fields.invalid("max_position_embeddings", rows, "at least 3"));
    }
    let buckets = fields.size("relative_attention_num_buckets", 32)?;
    if !buckets.is_multiple_of(4) || buckets / 4 >= DISTANCE_MAX {
        return Err(fields.invalid("relative_attention_num_buckets", buckets, "a multiple of 4 below 512"));
    }
    Ok(Shape {
        vocabulary: fields.size("vocab_size", 30_527)?,
        hidden: fields.size("hidden_size", 768)?,
        heads: fields.size("num_attention_heads", 12)?,
        intermediate: fields.size("intermediate_size", 3072)?,
        tokens_max,
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-12),
        token_types: 0,
        positions: Some(PositionTable { rows, counting: Counting::FromPadding(PADDING) }),
        norms: NormPlace::AfterBlock,
        biases: Biases::ALL,
        feed_forward: FeedForward::Gelu,
        relative: Some(RelativeBuckets { buckets, distance_max: DISTANCE_MAX }),
        rotaries: Vec::new(),
        layers: vec![LayerShape::default(); fields.size("num_hidden_layers", 12)?],
        names: &NAMES,
    })
}

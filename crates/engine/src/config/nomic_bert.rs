//! NomicBert: BERT with rotary positions, SwiGLU and mostly no biases.
//!
//! Two spellings of config.json are in use: the one the model's own code came with, after GPT-2, and that of
//! transformers 5.

use super::fields::Fields;
use super::shape::{
    Biases, FeedForward, LayerShape, Names, NormPlace, NtkScaling, Pairs, Presence, Rotary, Shape,
};
use crate::error::LoadError;

static NAMES: Names = Names {
    prefixes: &["", "bert.", "nomic_bert."],
    words: "embeddings.word_embeddings",
    positions: "",
    token_types: "embeddings.token_type_embeddings",
    embedding_norm: "emb_ln",
    relative: "",
    layer: "encoder.layers.",
    qkv: &["attn.Wqkv"],
    attention_out: "attn.out_proj",
    attention_norm: "norm1",
    up: &["mlp.fc11", "mlp.fc12"],
    down: "mlp.fc2",
    down_norm: "norm2",
    final_norm: "",
};

/// Reads the spelling that the file has.
pub(super) fn read(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    if fields.has("hidden_size") { read_newer(fields) } else { read_own(fields) }
}

/// Absent fields have the defaults of nomic-embed-text-v1.5.
fn read_own(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    fields.only("activation_function", &["swiglu"])?;
    for unsupported in
        ["prenorm", "causal", "use_rms_norm", "rotary_emb_scale_base", "num_experts", "num_heads_kv"]
    {
        fields.off(unsupported)?;
    }
    if let Some(fraction) = fields.number("rotary_emb_fraction")?
        && fraction != 1.0
    {
        return Err(fields.invalid("rotary_emb_fraction", fraction, "1"));
    }
    let positions = fields.size("n_positions", 8192)?;
    let trained = fields.size("max_trained_positions", 2048)?;
    let factor = fields.number("rotary_scaling_factor")?.filter(|factor| *factor != 0.0);
    let interleaved = fields.switch("rotary_emb_interleaved", false)?;
    let rotary = Rotary {
        base: fields.number("rotary_emb_base")?.unwrap_or(1000.0),
        pairs: if interleaved { Pairs::Neighbours } else { Pairs::Halves },
        scaling: factor.map(|factor| NtkScaling { factor, trained }),
    };
    Ok(Shape {
        vocabulary: fields.size("vocab_size", 30_528)?,
        hidden: fields.size("n_embd", 768)?,
        heads: fields.size("n_head", 12)?,
        intermediate: fields.size("n_inner", 3072)?,
        tokens_max: positions,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-12),
        token_types: fields.whole("type_vocab_size", 0, 2)?,
        biases: Biases {
            attention: Presence::of(fields.switch("qkv_proj_bias", false)?),
            up: Presence::of(fields.switch("mlp_fc1_bias", false)?),
            down: Presence::of(fields.switch("mlp_fc2_bias", false)?),
            norm: Presence::Present,
        },
        ..shape(rotary, fields.size("n_layer", 12)?)
    })
}

/// As transformers 5 writes it.
fn read_newer(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    fields.only("hidden_act", &["silu"])?;
    let trained = fields.size("max_position_embeddings", 2048)?;
    let parameters = fields.object("rope_parameters")?;
    let mut rotary = Rotary { base: 1000.0, pairs: Pairs::Halves, scaling: None };
    if let Some(parameters) = &parameters {
        parameters.only("rope_type", &["default", "dynamic"])?;
        rotary.base = parameters.number("rope_theta")?.unwrap_or(rotary.base);
        if parameters.text("rope_type")? == Some("dynamic") {
            let factor = parameters.number("factor")?.unwrap_or(1.0);
            rotary.scaling = Some(NtkScaling { factor, trained });
        }
    }
    // Positions are not learned, so that texts beyond the training are computed where the base grows with them.
    let tokens_max = if rotary.scaling.is_some() { trained.max(8192) } else { trained };
    Ok(Shape {
        vocabulary: fields.size("vocab_size", 30_528)?,
        hidden: fields.size("hidden_size", 768)?,
        heads: fields.size("num_attention_heads", 12)?,
        intermediate: fields.size("intermediate_size", 3072)?,
        tokens_max,
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(1e-12),
        token_types: fields.whole("type_vocab_size", 0, 2)?,
        ..shape(rotary, fields.size("num_hidden_layers", 12)?)
    })
}

/// What both spellings share.
fn shape(rotary: Rotary, layers: usize) -> Shape {
    Shape {
        vocabulary: 0,
        hidden: 0,
        heads: 0,
        intermediate: 0,
        tokens_max: 0,
        norm_epsilon: 0.0,
        token_types: 0,
        positions: None,
        norms: NormPlace::AfterBlock,
        biases: Biases {
            attention: Presence::Absent,
            up: Presence::Absent,
            down: Presence::Absent,
            norm: Presence::Present,
        },
        feed_forward: FeedForward::SwiGlu,
        relative: None,
        rotaries: vec![rotary],
        layers: vec![LayerShape { rotary: Some(0), window: None }; layers],
        names: &NAMES,
    }
}

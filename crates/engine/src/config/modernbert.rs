//! ModernBert: norms in front of the blocks, GeGLU, rotary positions, and a window in most layers.

use super::fields::Fields;
use super::shape::{Biases, FeedForward, LayerShape, Names, NormPlace, Pairs, Presence, Rotary, Shape};
use crate::error::LoadError;

static NAMES: Names = Names {
    prefixes: &["", "model."],
    words: "embeddings.tok_embeddings",
    positions: "",
    token_types: "",
    embedding_norm: "embeddings.norm",
    relative: "",
    layer: "layers.",
    qkv: &["attn.Wqkv"],
    attention_out: "attn.Wo",
    attention_norm: "attn_norm",
    up: &["mlp.Wi"],
    down: "mlp.Wo",
    down_norm: "mlp_norm",
    final_norm: "final_norm",
};

/// Indices in [`Shape::rotaries`].
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

/// Absent fields have the defaults that transformers gives them.
pub(super) fn read(fields: &Fields<'_>) -> Result<Shape, LoadError> {
    fields.only("hidden_activation", &["gelu"])?;
    fields.only("position_embedding_type", &["absolute", "sans_pos"])?;
    let mlp = Presence::of(fields.switch("mlp_bias", false)?);
    Ok(Shape {
        vocabulary: fields.size("vocab_size", 50_368)?,
        hidden: fields.size("hidden_size", 768)?,
        heads: fields.size("num_attention_heads", 12)?,
        intermediate: fields.size("intermediate_size", 1152)?,
        tokens_max: fields.size("max_position_embeddings", 8192)?,
        norm_epsilon: fields.number("norm_eps")?.unwrap_or(1e-5),
        token_types: 0,
        positions: None,
        norms: NormPlace::BeforeBlock,
        biases: Biases {
            attention: Presence::of(fields.switch("attention_bias", false)?),
            up: mlp,
            down: mlp,
            norm: Presence::of(fields.switch("norm_bias", false)?),
        },
        feed_forward: FeedForward::GeGlu,
        relative: None,
        rotaries: vec![
            rotary(fields, "full_attention", ("global_rope_theta", 160_000.0))?,
            rotary(fields, "sliding_attention", ("local_rope_theta", 10_000.0))?,
        ],
        layers: layers(fields)?,
        names: &NAMES,
    })
}

/// The base of one kind of layer: in an object of its own, or in a field of older files.
fn rotary(
    fields: &Fields<'_>,
    kind: &'static str,
    (older, default): (&'static str, f32),
) -> Result<Rotary, LoadError> {
    let parameters = fields.object("rope_parameters")?;
    let parameters = parameters.map(|parameters| parameters.object(kind)).transpose()?.flatten();
    let mut base = fields.number(older)?;
    if let Some(parameters) = parameters {
        parameters.only("rope_type", &["default"])?;
        base = parameters.number("rope_theta")?.or(base);
    }
    Ok(Rotary { base: base.unwrap_or(default), pairs: Pairs::Halves, scaling: None })
}

/// Every third layer sees the whole text, the others half of `local_attention` to each side, unless the file lists them.
fn layers(fields: &Fields<'_>) -> Result<Vec<LayerShape>, LoadError> {
    let window = fields.size("local_attention", 128)? / 2;
    let global = LayerShape { rotary: Some(GLOBAL), window: None };
    let local = LayerShape { rotary: Some(LOCAL), window: Some(window) };
    let count = fields.size("num_hidden_layers", 22)?;
    let Some(kinds) = fields.texts("layer_types")? else {
        let every = fields.size("global_attn_every_n_layers", 3)?;
        return Ok((0..count).map(|index| if index % every == 0 { global } else { local }).collect());
    };
    if kinds.len() != count {
        return Err(fields.invalid(
            "layer_types",
            kinds.len(),
            &format!("num_hidden_layers = {count} of them"),
        ));
    }
    let layer = |kind: &&str| match *kind {
        "full_attention" => Ok(global),
        "sliding_attention" => Ok(local),
        other => Err(fields.invalid("layer_types", other, "full_attention or sliding_attention")),
    };
    kinds.iter().map(layer).collect()
}

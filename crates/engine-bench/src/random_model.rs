//! A model of random weights in the shape of nomic-embed-text-v1.5: fast or slow as the real one, for who cannot fetch it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::StdRng};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::json;

const LAYERS: usize = 12;
const HEADS: usize = 12;
const HIDDEN: usize = 768;
const INTERMEDIATE: usize = 3072;
const VOCABULARY: usize = 30_528;
const POSITIONS: usize = 8192;
/// As the weights of encoders are drawn before training: uniform, of the standard deviation 0.02.
const WEIGHT_MAX: f32 = 0.0346;
const SEED: u64 = 1;

/// Writes config.json and model.safetensors to `dir` unless they are there.
///
/// # Errors
/// Where they cannot be written.
pub(crate) fn provide(dir: &Path) -> Result<()> {
    let (config, weights) = (dir.join("config.json"), dir.join("model.safetensors"));
    if config.exists() && weights.exists() {
        return Ok(());
    }
    crate::progress(&format!("writing 137 million random weights to {}", dir.display()));
    fs::create_dir_all(dir)?;
    let mut rng = StdRng::seed_from_u64(SEED);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes()
        .into_iter()
        .map(|(name, shape)| {
            let bytes = values(&name, shape.iter().product(), &mut rng);
            (name, shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views: Vec<_> = views.collect::<Result<_>>()?;
    serialize_to_file(views, None, &weights).with_context(|| format!("write {}", weights.display()))?;
    fs::write(&config, config_json().to_string())?;
    Ok(())
}

/// In transformers' spelling, which its own NomicBertModel and our engine read.
fn config_json() -> serde_json::Value {
    json!({
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "rope_parameters": { "rope_type": "default", "rope_theta": 1000.0 },
    })
}

/// Every tensor under the name that the model's own checkpoint gives it.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, HIDDEN]),
        ("emb_ln.weight".to_owned(), vec![HIDDEN]),
        ("emb_ln.bias".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let of_layer = [
            ("attn.Wqkv.weight", vec![3 * HIDDEN, HIDDEN]),
            ("attn.out_proj.weight", vec![HIDDEN, HIDDEN]),
            ("mlp.fc11.weight", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.fc12.weight", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.fc2.weight", vec![HIDDEN, INTERMEDIATE]),
            ("norm1.weight", vec![HIDDEN]),
            ("norm1.bias", vec![HIDDEN]),
            ("norm2.weight", vec![HIDDEN]),
            ("norm2.bias", vec![HIDDEN]),
        ];
        shapes.extend(of_layer.map(|(name, shape)| (format!("encoder.layers.{layer}.{name}"), shape)));
    }
    shapes
}

fn values(name: &str, count: usize, rng: &mut StdRng) -> Vec<u8> {
    let is_norm = name.contains("norm") || name.contains("_ln");
    let value = |rng: &mut StdRng| match (is_norm, name.ends_with("weight")) {
        (true, true) => 1.0,
        (true, false) => 0.0,
        (false, _) => rng.random_range(-WEIGHT_MAX..WEIGHT_MAX),
    };
    (0..count).flat_map(|_| f32::to_le_bytes(value(rng))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_has_137_million_weights() {
        let count: usize = shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count / 1_000_000, 136);
    }
}

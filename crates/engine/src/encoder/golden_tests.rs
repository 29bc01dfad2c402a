//! Each kind of encoder, small and with random weights, against the hidden states that Python's transformers computes
//! for it (`scripts/golden_encoders.py`), in every tier.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use kernels::{Crew, Tier};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde::Deserialize;

use super::{Encoder, Packing, WeightType};
use crate::batch::{RaggedBatch, TokenIds};
use crate::config::{Shape, supported_architectures};
use crate::weights::Weights;

/// Largest |Δ| of a hidden state in float32; they are of size one.
const TOLERANCE: f32 = 1e-4;
/// Least cosine of a token's hidden state in bfloat16 to that of float64. With random weights rounding does not average
/// out as it does in a trained model, and two layers of it are all there is.
const COSINE_MIN: f32 = 0.999;
/// The same in int8.
const INT8_COSINE_MIN: f32 = 0.99;

/// What the script wrote of one encoder.
#[derive(Deserialize)]
struct Golden {
    config: serde_json::Value,
    tensors: BTreeMap<String, Vec<usize>>,
    texts: Vec<Vec<u32>>,
    #[serde(skip)]
    hidden: Vec<f32>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let json = std::fs::read(goldens().join(format!("{name}.json"))).unwrap();
        let bytes = std::fs::read(goldens().join(format!("{name}.f32"))).unwrap();
        let hidden = bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap()));
        Self { hidden: hidden.collect(), ..serde_json::from_slice(&json).unwrap() }
    }

    /// The encoder, its weights changed by `change(name, values)` first.
    fn encoder(&self, tier: Tier, weights: WeightType, change: impl Fn(&str, &mut [f32])) -> Encoder {
        let dir = tempfile::tempdir().unwrap();
        let (config, file) = (dir.path().join("config.json"), dir.path().join("model.safetensors"));
        std::fs::write(&config, self.config.to_string()).unwrap();
        self.write_weights(&file, change);
        let shape = Shape::read(&config).unwrap();
        let file = Weights::open(&file, shape.names).unwrap();
        Encoder::load(&shape, &file, Packing { tier, weights }).unwrap()
    }

    fn write_weights(&self, file: &Path, change: impl Fn(&str, &mut [f32])) {
        let bytes = |name: &str, shape: &[usize]| -> Vec<u8> {
            let mut values = weight(name, shape.iter().product());
            change(name, &mut values);
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let data: Vec<Vec<u8>> = self.tensors.iter().map(|(name, shape)| bytes(name, shape)).collect();
        let view = |((name, shape), data): ((&String, &Vec<usize>), &'_ Vec<u8>)| {
            (name.clone(), shape.clone(), data.clone())
        };
        let owned: Vec<_> = self.tensors.iter().zip(&data).map(view).collect();
        let views = owned.iter().map(|(name, shape, data)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        serialize_to_file(views, None, file).unwrap();
    }

    fn batch(&self) -> RaggedBatch {
        RaggedBatch::new(&self.tokens()).unwrap()
    }

    fn tokens(&self) -> Vec<TokenIds> {
        self.texts.iter().map(|text| TokenIds::new(text.clone()).unwrap()).collect()
    }
}

/// The same numbers as `weight` of the script.
fn weight(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let is_norm = name.to_lowercase().contains("norm") || name.contains("emb_ln");
    let (center, span) = match name {
        _ if is_norm && name.ends_with(".weight") => (1.0, 0.25),
        _ if name.contains("embeddings") || name.contains("relative") => (0.0, 0.5),
        _ => (0.0, 0.25),
    };
    (0..count).map(|_| center + span * next()).collect()
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders")
}

/// Those of `names` that this CPU has, with tiles in software if it has none. One that it lacks is named on stderr and in
/// the file `SUTRA_SKIP_LOG`.
fn tiers(test: &str, names: &[&str]) -> Vec<Tier> {
    kernels::software_tiles::switch_on();
    let force = |name: &&str| Tier::force(name).map_err(|missing| skip(test, &missing.to_string())).ok();
    names.iter().filter_map(force).collect()
}

const FLOAT32: [&str; 3] = ["avx512", "avx2", "portable"];
const BFLOAT16: [&str; 4] = ["amx-bf16", "avx512-bf16", "avx512-int16", "avx2-int16"];
const ALL: [&str; 7] =
    ["amx-bf16", "avx512-bf16", "avx512-int16", "avx512", "avx2-int16", "avx2", "portable"];

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn skip(test: &str, reason: &str) {
    let skipped = format!("engine::{test}: {reason}\n");
    if let Ok(log) = std::env::var("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

fn hidden_states(encoder: &Encoder, batch: &RaggedBatch) -> Vec<f32> {
    encoder.forward(batch, &Crew::new(1), <[f32]>::to_vec)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Runs `check` for every encoder in every tier of `names`.
fn for_each(test: &str, names: &[&str], check: impl Fn(&str, &Golden, Tier)) {
    for tier in tiers(test, names) {
        for name in supported_architectures() {
            check(name, &Golden::read(name), tier);
        }
    }
}

#[test]
fn float32_equals_transformers() {
    for_each("float32_equals_transformers", &FLOAT32, |name, golden, tier| {
        let found = hidden_states(&golden.encoder(tier, WeightType::Float, |_, _| {}), &golden.batch());
        assert_eq!(found.len(), golden.hidden.len());
        for (place, (found, wanted)) in found.iter().zip(&golden.hidden).enumerate() {
            let delta = (found - wanted).abs();
            assert!(delta <= TOLERANCE, "{name} on {}: {delta:e} off at {place}", tier.name());
        }
    });
}

#[test]
fn bfloat16_points_where_transformers_does() {
    for_each("bfloat16_points_where_transformers_does", &BFLOAT16, |name, golden, tier| {
        let encoder = golden.encoder(tier, WeightType::Float, |_, _| {});
        let found = hidden_states(&encoder, &golden.batch());
        let tokens = found.chunks_exact(encoder.width()).zip(golden.hidden.chunks_exact(encoder.width()));
        for (token, (found, wanted)) in tokens.enumerate() {
            let cosine = cosine(found, wanted);
            assert!(cosine >= COSINE_MIN, "{name}: token {token} has cosine {cosine}");
        }
    });
}

#[test]
fn int8_points_about_where_transformers_does() {
    for_each("int8_points_about_where_transformers_does", &ALL, |name, golden, tier| {
        let encoder = golden.encoder(tier, WeightType::Int8, |_, _| {});
        let found = hidden_states(&encoder, &golden.batch());
        let tokens = found.chunks_exact(encoder.width()).zip(golden.hidden.chunks_exact(encoder.width()));
        for (token, (found, wanted)) in tokens.enumerate() {
            let cosine = cosine(found, wanted);
            assert!(
                cosine >= INT8_COSINE_MIN,
                "{name} on {}: token {token} has cosine {cosine}",
                tier.name()
            );
        }
    });
}

#[test]
fn a_text_is_the_same_alone_and_among_others() {
    for_each("a_text_is_the_same_alone_and_among_others", &ALL, |name, golden, tier| {
        for weights in [WeightType::Float, WeightType::Int8] {
            let encoder = golden.encoder(tier, weights, |_, _| {});
            let together = hidden_states(&encoder, &golden.batch());
            let mut together = together.as_slice();
            for text in golden.tokens() {
                let alone = hidden_states(&encoder, &RaggedBatch::new([&text]).unwrap());
                let (found, rest) = together.split_at(alone.len());
                assert_eq!(found, alone, "{name} on {}, {weights:?}: {} tokens", tier.name(), text.len());
                together = rest;
            }
        }
    });
}

#[test]
fn a_broken_word_breaks_the_texts_that_have_it_and_no_other() {
    for_each("a_broken_word_breaks_the_texts_that_have_it_and_no_other", &ALL, |name, golden, tier| {
        let word = golden.texts[0][0];
        let both = [WeightType::Float, WeightType::Int8];
        let broken =
            [f32::NAN, f32::INFINITY].into_iter().flat_map(|broken| both.map(|weights| (broken, weights)));
        for (broken, weights) in broken {
            let encoder = golden.encoder(tier, weights, |name, values| {
                if name.contains("word_embeddings") || name.contains("tok_embeddings") {
                    values[word as usize * 64 + 5] = broken;
                }
            });
            let found = hidden_states(&encoder, &golden.batch());
            let mut rows = found.as_slice();
            for text in &golden.texts {
                let (of_text, rest) = rows.split_at(text.len() * encoder.width());
                rows = rest;
                let is_broken = of_text.iter().any(|value| !value.is_finite());
                assert_eq!(is_broken, text.contains(&word), "{name} on {}", tier.name());
            }
        }
    });
}

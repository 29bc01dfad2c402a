//! all-MiniLM-L6-v2 as a model that ships only ONNX, made by `scripts/onnx_models.py export`.

use std::path::{Path, PathBuf};

use engine::{Compute, TokenIds};

use crate::directory::{embed, has_library, load};
use crate::golden_files::{cosine, largest_delta, read_vectors, tokenize, unit_norm};
use crate::model_dir::{model_dir, skip, variable};

/// Where the script's output is, if `SUTRA_TEST_ONNX_DIR` names no other place.
const DIRECTORY: &str = ".sutra/models/all-MiniLM-L6-v2-onnx";
/// Largest |Δ| of a component of a unit-norm vector to sentence-transformers.
const TOLERANCE: f32 = 1e-5;
/// Largest |Δ| of a component to the own encoder, before unit norm: they are of size one half.
const OWN_TOLERANCE: f32 = 1e-4;
/// Largest |Δ| between a text alone and in a batch.
const BATCH_TOLERANCE: f32 = 1e-5;
/// Least mean cosine of int8, and the least of one: one scale for all tokens of a call is coarser than the own int8.
const INT8_COSINE_MEAN: f32 = 0.98;
const INT8_COSINE_MIN: f32 = 0.95;

/// The directory, if that and the library are there.
fn directory(test: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = variable("SUTRA_TEST_ONNX_DIR").map_or_else(|| workspace.join(DIRECTORY), PathBuf::from);
    if !dir.join("model.onnx").exists() {
        skip(&format!("onnx::{test}"), "no all-MiniLM-L6-v2 as ONNX; scripts/onnx_models.py makes it");
        return None;
    }
    has_library(test).then_some(dir)
}

fn loaded(test: &str, compute: Compute) -> Option<(engine::Engine, Vec<TokenIds>)> {
    let dir = directory(test)?;
    Some((load(&dir, compute).unwrap(), tokenize(&dir)))
}

#[test]
fn goldens_match() {
    let Some((engine, texts)) = loaded("goldens_match", Compute::Float32) else { return };
    for (found, wanted) in embed(&engine, &texts).iter().zip(read_vectors(engine.width())) {
        let delta = largest_delta(&unit_norm(found), &wanted);
        assert!(delta <= TOLERANCE, "{delta:e} off");
    }
}

#[test]
fn the_own_encoder_computes_the_same() {
    let test = "the_own_encoder_computes_the_same";
    let Some((engine, texts)) = loaded(test, Compute::Float32) else { return };
    let Some(own) = model_dir(test) else { return };
    let own = load(&own, Compute::Float32).unwrap();
    for (found, wanted) in embed(&engine, &texts).iter().zip(embed(&own, &texts)) {
        let delta = largest_delta(found, &wanted);
        assert!(delta <= OWN_TOLERANCE, "{delta:e} off");
    }
}

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    for compute in [Compute::Float32, Compute::Int8] {
        let Some((engine, texts)) = loaded("a_vector_does_not_depend_on_its_batch", compute) else { return };
        for (text, together) in texts.iter().zip(embed(&engine, &texts)) {
            let delta = largest_delta(&together, &embed(&engine, [text])[0]);
            assert!(delta <= BATCH_TOLERANCE, "{}: {delta:e} off", compute.name());
        }
    }
}

#[test]
fn goldens_in_int8_point_nearly_the_same_way() {
    let test = "goldens_in_int8_point_nearly_the_same_way";
    let Some((engine, texts)) = loaded(test, Compute::Int8) else { return };
    let wanted = read_vectors(engine.width());
    let found = embed(&engine, &texts);
    let cosines: Vec<f32> = found.iter().zip(&wanted).map(|(a, b)| cosine(&unit_norm(a), b)).collect();
    let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
    let min = cosines.iter().copied().fold(1.0, f32::min);
    assert!(mean >= INT8_COSINE_MEAN && min >= INT8_COSINE_MIN, "mean {mean}, least {min}");
}

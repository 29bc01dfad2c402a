//! The committed model with random weights.

use std::fs;

use engine::{Compute, Engine, EngineConfig, Pooling, TokenIds};

use crate::directory::{config, directory, embed, has_library, load, tiny_files};
use crate::golden_files::{cosine, largest_delta, unit_norm};

/// Largest |Δ| to what transformers computes in float64.
const TOLERANCE: f32 = 1e-5;
/// Least cosine of int8. Weights have seven bits: with eight, ONNX Runtime's sums run over on a CPU without VNNI, and 0.98 is
/// what is left.
const INT8_COSINE_MIN: f32 = 0.9995;
const HIDDEN: usize = 32;

fn texts() -> Vec<TokenIds> {
    let json = fs::read(tiny_files().join("texts.json")).unwrap();
    let texts: Vec<Vec<u32>> = serde_json::from_slice(&json).unwrap();
    texts.into_iter().map(|ids| TokenIds::new(ids).unwrap()).collect()
}

/// The hidden states `(tokens, hidden)` of each text.
fn hidden_states() -> Vec<Vec<f32>> {
    let bytes = fs::read(tiny_files().join("hidden.f32")).unwrap();
    let values = bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap()));
    let values: Vec<f32> = values.collect();
    let mut rest = values.as_slice();
    let mut next = |text: TokenIds| {
        let (of_text, others) = rest.split_at(text.len() * HIDDEN);
        rest = others;
        of_text.to_vec()
    };
    texts().into_iter().map(&mut next).collect()
}

fn means() -> Vec<Vec<f32>> {
    let mean = |states: Vec<f32>| {
        let tokens = states.len() / HIDDEN;
        (0..HIDDEN).map(|at| states.iter().skip(at).step_by(HIDDEN).sum::<f32>() / tokens as f32).collect()
    };
    hidden_states().into_iter().map(mean).collect()
}

#[test]
fn float32_equals_transformers_whatever_the_name_of_the_file() {
    if !has_library("float32_equals_transformers_whatever_the_name_of_the_file") {
        return;
    }
    for name in ["model.onnx", "onnx/model.onnx"] {
        let engine = load(directory("model.onnx", name).path(), Compute::Float32).unwrap();
        assert_eq!((engine.width(), engine.vocabulary(), engine.tokens_max()), (HIDDEN, 64, 40));
        assert_eq!((engine.computes_with(), engine.compute()), ("onnxruntime", Compute::Float32));
        for (found, wanted) in embed(&engine, &texts()).iter().zip(means()) {
            let delta = largest_delta(found, &wanted);
            assert!(delta <= TOLERANCE, "{delta:e} off");
        }
    }
}

#[test]
fn first_and_last_token_are_those_of_the_text_and_not_padding() {
    if !has_library("first_and_last_token_are_those_of_the_text_and_not_padding") {
        return;
    }
    let dir = directory("model.onnx", "model.onnx");
    for pooling in [Pooling::Cls, Pooling::LastToken] {
        let engine = Engine::load(dir.path(), &EngineConfig { pooling, ..config(Compute::Float32) }).unwrap();
        for (found, states) in embed(&engine, &texts()).iter().zip(hidden_states()) {
            let from = if pooling == Pooling::Cls { 0 } else { states.len() - HIDDEN };
            let delta = largest_delta(found, &states[from..][..HIDDEN]);
            assert!(delta <= TOLERANCE, "{pooling}: {delta:e} off");
        }
    }
}

#[test]
fn int8_points_about_where_transformers_does() {
    if !has_library("int8_points_about_where_transformers_does") {
        return;
    }
    for name in ["model_int8.onnx", "onnx/model_quantized.onnx"] {
        let engine = load(directory("model_quantized.onnx", name).path(), Compute::Int8).unwrap();
        for (found, wanted) in embed(&engine, &texts()).iter().zip(means()) {
            let cosine = cosine(&unit_norm(found), &unit_norm(&wanted));
            assert!(cosine >= INT8_COSINE_MIN, "cosine {cosine}");
        }
    }
}

#[test]
fn a_text_is_the_same_alone_and_among_others() {
    if !has_library("a_text_is_the_same_alone_and_among_others") {
        return;
    }
    for (file, compute) in [("model.onnx", Compute::Float32), ("model_quantized.onnx", Compute::Int8)] {
        let engine = load(directory(file, file).path(), compute).unwrap();
        for (text, together) in texts().iter().zip(embed(&engine, &texts())) {
            let delta = largest_delta(&together, &embed(&engine, [text])[0]);
            assert!(delta <= TOLERANCE, "{file}: {delta:e} off");
        }
    }
}

#[test]
fn calls_from_several_threads_take_turns() {
    if !has_library("calls_from_several_threads_take_turns") {
        return;
    }
    let engine = load(directory("model.onnx", "model.onnx").path(), Compute::Float32).unwrap();
    let wanted = embed(&engine, &texts());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(embed(&engine, &texts()), wanted));
        }
    });
}

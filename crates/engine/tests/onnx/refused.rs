//! What is refused, by name.

use std::fs;
use std::process::Command;

use engine::{Compute, EmbedError, Engine, LoadError, RaggedBatch, TokenIds};

use crate::directory::{directory, has_library, load, tiny_files};
use crate::model_dir::variable;

/// Why the committed model is refused with `field` of config.json changed to `value`.
fn refusal_with(field: &str, value: serde_json::Value) -> LoadError {
    let dir = directory("model.onnx", "model.onnx");
    let file = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config[field] = value;
    fs::write(&file, config.to_string()).unwrap();
    load(dir.path(), Compute::Float32).unwrap_err()
}

#[test]
fn a_damaged_file_is_named() {
    if !has_library("a_damaged_file_is_named") {
        return;
    }
    let dir = directory("model.onnx", "model.onnx");
    let whole = fs::read(tiny_files().join("model.onnx")).unwrap();
    for bytes in [&b"no graph"[..], &whole[..whole.len() / 2]] {
        fs::write(dir.path().join("model.onnx"), bytes).unwrap();
        let error = load(dir.path(), Compute::Float32).unwrap_err();
        assert!(
            matches!(&error, LoadError::OnnxGraph { file, .. } if file.ends_with("model.onnx")),
            "{error}"
        );
    }
}

/// The second file is where ONNX Runtime would look for it by itself: beside the working directory of this test.
#[test]
fn a_graph_with_weights_in_a_second_file_is_refused() {
    if !has_library("a_graph_with_weights_in_a_second_file_is_refused") {
        return;
    }
    assert!(std::path::Path::new("tests/onnx/split.bin").exists());
    let dir = directory("split.onnx", "model.onnx");
    let error = load(dir.path(), Compute::Float32).unwrap_err();
    assert!(matches!(&error, LoadError::OnnxGraph { file, .. } if file.ends_with("model.onnx")), "{error}");
}

#[test]
fn a_width_that_config_does_not_name_is_refused() {
    if !has_library("a_width_that_config_does_not_name_is_refused") {
        return;
    }
    let error = refusal_with("hidden_size", 48.into()).to_string();
    assert!(error.contains("32 values a token, hidden_size is 48"), "{error}");
}

#[test]
fn a_kind_that_no_encoder_here_computes_is_served() {
    if !has_library("a_kind_that_no_encoder_here_computes_is_served") {
        return;
    }
    let dir = directory("model.onnx", "model.onnx");
    let config =
        r#"{"model_type":"deberta-v2","hidden_size":32,"vocab_size":64,"max_position_embeddings":40}"#;
    fs::write(dir.path().join("config.json"), config).unwrap();
    assert_eq!(load(dir.path(), Compute::Float32).unwrap().tokens_max(), 40);
}

#[test]
fn a_class_without_a_file_is_refused_before_the_library_is_asked_for() {
    let dir = directory("model.onnx", "model.onnx");
    for compute in [Compute::Bfloat16, Compute::Int8] {
        let error = load(dir.path(), compute).unwrap_err();
        assert!(matches!(&error, LoadError::OnnxFile { found, .. } if found == &["model.onnx"]), "{error}");
    }
}

#[test]
fn a_batch_that_the_graph_cannot_compute_fails_and_the_next_does_not() {
    if !has_library("a_batch_that_the_graph_cannot_compute_fails_and_the_next_does_not") {
        return;
    }
    let dir = directory("model.onnx", "model.onnx");
    let config = r#"{"model_type":"deberta-v2","hidden_size":32,"vocab_size":9999}"#;
    fs::write(dir.path().join("config.json"), config).unwrap();
    let engine = load(dir.path(), Compute::Float32).unwrap();
    let embed = |engine: &Engine, id| {
        let text = TokenIds::new(vec![1, id]).unwrap();
        engine.embed(&RaggedBatch::new([&text]).unwrap()).map(|vectors| vectors.len())
    };
    let error = embed(&engine, 5000).unwrap_err();
    assert!(matches!(&error, EmbedError::Onnx { file, .. } if file.ends_with("model.onnx")), "{error}");
    assert!(matches!(embed(&engine, 9999), Err(EmbedError::TokenOutOfVocabulary { .. })));
    assert_eq!(embed(&engine, 63).unwrap(), 1);
}

/// In a process of its own, because a library that was loaded once stays.
#[test]
fn a_missing_library_is_an_error_that_names_the_variable() {
    let dir = directory("model.onnx", "model.onnx");
    if variable("SUTRA_TEST_WITHOUT_ONNXRUNTIME").is_some() {
        let error = load(dir.path(), Compute::Float32).unwrap_err().to_string();
        assert!(error.contains("no/such/library.so") && error.contains("ORT_DYLIB_PATH"), "{error}");
        return;
    }
    let test = "refused::a_missing_library_is_an_error_that_names_the_variable";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("ORT_DYLIB_PATH", "no/such/library.so")
        .env("SUTRA_TEST_WITHOUT_ONNXRUNTIME", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

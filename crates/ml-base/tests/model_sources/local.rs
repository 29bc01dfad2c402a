//! A model directory by path.

use std::fs;
use std::path::Path;

use ml_base::model::{ModelName, Sha256};

use crate::tiny::{self, refusal, resolve, sources};

fn model() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    tiny::write_into(directory.path());
    directory
}

fn named(directory: &Path) -> ModelName {
    ModelName::Directory(directory.to_owned())
}

/// Why the directory is refused after `file` was changed to `bytes`.
fn refusal_with(file: &str, bytes: &[u8]) -> String {
    let directory = model();
    fs::write(directory.path().join(file), bytes).unwrap();
    refusal(&named(directory.path()), &sources(directory.path(), None, None))
}

#[test]
fn directory_is_used_as_it_is_without_any_network() {
    let directory = model();
    let model = resolve(&named(directory.path()), &sources(Path::new("/no/store"), None, None)).unwrap();
    assert_eq!(model.directory, directory.path());
    assert_eq!(model.id, directory.path().file_name().unwrap().to_str().unwrap());
    assert_eq!((model.pooling, model.tokens_max), (engine::Pooling::Cls, 64));
}

#[test]
fn directory_that_is_not_there_is_named() {
    let message = refusal(&named(Path::new("/no/model")), &sources(Path::new("/no/store"), None, None));
    assert_eq!(message, "model directory /no/model is not there");
}

#[test]
fn missing_file_is_named_with_the_directory() {
    let directory = model();
    fs::remove_file(directory.path().join("tokenizer.json")).unwrap();
    let message = refusal(&named(directory.path()), &sources(directory.path(), None, None));
    assert_eq!(message, format!("tokenizer.json: missing in {}", directory.path().display()));
}

#[test]
fn truncated_weights_are_named_with_both_lengths() {
    let whole = tiny::weights(1000);
    let message = refusal_with("model.safetensors", &whole[..500]);
    assert_eq!(message, format!("model.safetensors: 500 bytes, its header wants {}", whole.len()));
}

#[test]
fn directory_with_sums_is_held_to_them() {
    let directory = model();
    let wanted = Sha256::of_bytes(b"{}");
    fs::write(directory.path().join("SHA256SUMS"), format!("{wanted}  tokenizer.json\n")).unwrap();
    let sources = sources(directory.path(), None, None);
    resolve(&named(directory.path()), &sources).unwrap();
    fs::write(directory.path().join("tokenizer.json"), "[]").unwrap();
    let found = Sha256::of_bytes(b"[]");
    let message = refusal(&named(directory.path()), &sources);
    assert_eq!(message, format!("tokenizer.json: sha256 is {found}, wanted {wanted}"));
}

#[test]
fn broken_config_is_named() {
    let message = refusal_with("config.json", b"{");
    assert!(message.starts_with("config.json: EOF while parsing"), "{message}");
    let message = refusal_with("config.json", br#"{"model_type":"bert"}"#);
    assert_eq!(message, "config.json: missing field `hidden_size`");
}

#[test]
fn other_architecture_is_refused_by_name() {
    let message = refusal_with("config.json", br#"{"model_type":"t5"}"#);
    assert!(message.contains(r#"is a "t5", which the engine cannot compute: it has bert"#), "{message}");
}

/// A build with the feature `onnx` serves it (`tests/onnx.rs`).
#[cfg(not(feature = "onnx"))]
#[test]
fn directory_that_ships_only_onnx_is_refused_with_what_to_build() {
    let directory = model();
    fs::create_dir(directory.path().join("onnx")).unwrap();
    fs::rename(directory.path().join("model.safetensors"), directory.path().join("onnx/model.onnx")).unwrap();
    let message = refusal(&named(directory.path()), &sources(directory.path(), None, None));
    assert!(message.starts_with("onnx/model.onnx: this model ships only ONNX"), "{message}");
    assert!(message.ends_with("build with --features onnx"), "{message}");
}

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

#[test]
fn other_pooling_is_refused_by_name() {
    let pooling = br#"{"pooling_mode_max_tokens":true,"pooling_mode_mean_tokens":false}"#;
    let message = refusal_with("1_Pooling/config.json", pooling);
    let expected = "1_Pooling/config.json: pooling is [pooling_mode_max_tokens], it must be mean or cls";
    assert_eq!(message, expected);
}

#[test]
fn model_with_a_layer_after_pooling_is_refused_by_name() {
    let modules = br#"[{"type":"sentence_transformers.models.Transformer"},
        {"type":"sentence_transformers.models.Dense"}]"#;
    let message = refusal_with("modules.json", modules);
    assert!(message.starts_with("modules.json: module \"sentence_transformers.models.Dense\""), "{message}");
}

#[test]
fn limit_is_never_more_than_there_are_positions() {
    let directory = model();
    let limits = directory.path().join("sentence_bert_config.json");
    let sources = sources(directory.path(), None, None);
    fs::write(&limits, r#"{"max_seq_length":514}"#).unwrap();
    assert_eq!(resolve(&named(directory.path()), &sources).unwrap().tokens_max, 512);
    fs::remove_file(limits).unwrap();
    assert_eq!(resolve(&named(directory.path()), &sources).unwrap().tokens_max, 512);
}

#[test]
fn prompts_of_the_model_are_read() {
    let directory = model();
    let prompts = r#"{"prompts":{"query":"query: ","document":""}}"#;
    fs::write(directory.path().join("config_sentence_transformers.json"), prompts).unwrap();
    let model = resolve(&named(directory.path()), &sources(directory.path(), None, None)).unwrap();
    assert_eq!(model.prompts.into_iter().collect::<Vec<_>>(), [("query".into(), "query: ".into())]);
}

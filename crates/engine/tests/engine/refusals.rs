//! Models and batches that are refused, each by name.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use engine::{
    Compute, EmbedError, Engine, EngineConfig, Isa, LoadError, Pooling, RaggedBatch, TokenIds,
    supported_architectures,
};
use serde_json::{Value, json};

use crate::random_bert::{CURRENT, HIDDEN, IDS, INTERMEDIATE, POSITIONS, RandomBert, VOCABULARY};

fn load(dir: &Path, tokens_max: usize) -> Result<Engine, LoadError> {
    Engine::load(
        dir,
        &EngineConfig {
            pooling: Pooling::Mean,
            tokens_max,
            compute: Compute::Float32,
            isa: Isa::Auto,
            threads: NonZeroUsize::MIN.into(),
        },
    )
}

/// Why the model is refused.
fn refusal(bert: &RandomBert) -> LoadError {
    load(bert.write().path(), POSITIONS).unwrap_err()
}

fn refusal_with(field: &str, value: Value) -> LoadError {
    let mut bert = RandomBert::new(21, CURRENT);
    bert.config[field] = value;
    refusal(&bert)
}

/// Why the model is refused whose weights file went through `damage`.
fn refusal_of_damaged(damage: impl FnOnce(&mut Vec<u8>)) -> LoadError {
    let dir = RandomBert::new(22, CURRENT).write();
    let file = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut bytes);
    fs::write(&file, bytes).unwrap();
    load(dir.path(), POSITIONS).unwrap_err()
}

fn embed(ids: Vec<u32>, tokens_max: usize) -> Result<usize, EmbedError> {
    let engine = load(RandomBert::new(23, CURRENT).write().path(), tokens_max).unwrap();
    let batch = RaggedBatch::new([&TokenIds::new(vec![1]).unwrap(), &TokenIds::new(ids).unwrap()]).unwrap();
    engine.embed(&batch).map(|vectors| vectors.len())
}

#[test]
fn the_loaded_model_tells_its_sizes() {
    let engine = load(RandomBert::new(20, CURRENT).write().path(), 40).unwrap();
    assert_eq!((engine.width(), engine.vocabulary(), engine.tokens_max()), (HIDDEN, VOCABULARY, 40));
    assert!(supported_architectures().contains(&"bert"));
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "model.safetensors"] {
        let dir = RandomBert::new(24, CURRENT).write();
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = load(dir.path(), POSITIONS).unwrap_err();
        assert!(matches!(&error, LoadError::MissingFile { file } if file.ends_with(name)), "{error}");
    }
}

#[test]
fn a_config_that_is_not_json_is_named() {
    let dir = RandomBert::new(25, CURRENT).write();
    fs::write(dir.path().join("config.json"), "{\"hidden_size\": ").unwrap();
    let error = load(dir.path(), POSITIONS).unwrap_err();
    assert!(matches!(error, LoadError::Config { .. }), "{error}");
}

#[test]
fn other_architectures_are_named() {
    for (field, value, name) in [
        ("model_type", json!("t5"), "t5"),
        ("model_type", json!("nomic_bert"), "BertModel"),
        ("architectures", json!(["JinaBertForMaskedLM"]), "JinaBertForMaskedLM"),
    ] {
        let error = refusal_with(field, value);
        assert!(
            matches!(&error, LoadError::UnsupportedArchitecture { found, .. } if found == name),
            "{error}"
        );
    }
}

#[test]
fn relative_positions_and_other_activations_are_named() {
    let error = refusal_with("position_embedding_type", json!("relative_key"));
    let LoadError::UnsupportedOption { field, found, supported, .. } = error else { panic!("{error}") };
    assert_eq!(
        (field, found, supported),
        ("position_embedding_type", "relative_key".to_owned(), "\"absolute\"".to_owned())
    );
    let error = refusal_with("hidden_act", json!("gelu_new"));
    let LoadError::UnsupportedOption { field, found, .. } = error else { panic!("{error}") };
    assert_eq!((field, found), ("hidden_act", "gelu_new".to_owned()));
}

#[test]
fn impossible_sizes_are_named() {
    for (wrong, value) in [
        ("num_attention_heads", json!(0)),
        ("hidden_size", json!(HIDDEN + 1)),
        ("layer_norm_eps", json!(-1.0)),
    ] {
        let error = refusal_with(wrong, value);
        assert!(matches!(&error, LoadError::InvalidConfig { field, .. } if *field == wrong), "{error}");
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let name = "encoder.layer.1.intermediate.dense.bias";
    let mut bert = RandomBert::new(26, CURRENT);
    bert.tensors.remove(name).unwrap();
    let error = refusal(&bert);
    assert!(matches!(&error, LoadError::MissingTensor { name: found, .. } if found == name), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let error = refusal_with("intermediate_size", json!(INTERMEDIATE + 1));
    let LoadError::WrongShape { name, found, wanted, .. } = error else { panic!("{error}") };
    assert_eq!(name, "encoder.layer.0.intermediate.dense.weight");
    assert_eq!((found, wanted), (vec![INTERMEDIATE, HIDDEN], vec![INTERMEDIATE + 1, HIDDEN]));
}

#[test]
fn a_tensor_of_whole_numbers_is_named() {
    let name = "embeddings.LayerNorm.bias";
    let mut bert = RandomBert::new(27, CURRENT);
    bert.tensors.insert(name.to_owned(), Tensor::zeros(HIDDEN, DType::U32, &Device::Cpu).unwrap());
    let error = refusal(&bert);
    assert!(matches!(&error, LoadError::WrongType { name: found, .. } if found == name), "{error}");
}

#[test]
fn a_truncated_file_tells_its_length_and_the_one_wanted() {
    for keep in [0, 7, 8, 300] {
        let error = refusal_of_damaged(|bytes| bytes.truncate(keep));
        let LoadError::Truncated { found_bytes, wanted_bytes, .. } = error else { panic!("{error}") };
        assert_eq!(found_bytes, keep as u64);
        assert!(wanted_bytes > found_bytes);
    }
    let mut whole = 0;
    let error = refusal_of_damaged(|bytes| {
        whole = bytes.len() as u64;
        bytes.truncate(bytes.len() - 1);
    });
    assert!(matches!(error, LoadError::Truncated { wanted_bytes, .. } if wanted_bytes == whole), "{error}");
}

#[test]
fn a_damaged_header_is_refused() {
    let absurd_length = refusal_of_damaged(|bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert!(matches!(absurd_length, LoadError::Header { .. }), "{absurd_length}");
    let not_json = refusal_of_damaged(|bytes| bytes[8] = b'#');
    assert!(matches!(not_json, LoadError::Header { .. }), "{not_json}");
    let trailing = refusal_of_damaged(|bytes| bytes.push(0));
    assert!(matches!(trailing, LoadError::Header { .. }), "{trailing}");
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    assert_eq!(embed(vec![IDS - 1], POSITIONS).unwrap(), 2);
    for id in [IDS, u32::MAX] {
        let error = embed(vec![3, id, 4], POSITIONS).unwrap_err();
        assert!(
            matches!(error, EmbedError::TokenOutOfVocabulary { id: found, vocabulary: VOCABULARY } if found == id)
        );
    }
}

#[test]
fn a_text_over_the_configured_limit_is_refused() {
    assert_eq!(embed(vec![5; 10], 10).unwrap(), 2);
    assert!(matches!(embed(vec![5; 11], 10), Err(EmbedError::TooLong { tokens: 11, tokens_max: 10 })));
}

#[test]
fn a_text_over_the_positions_of_the_model_is_refused_whatever_the_configured_limit() {
    assert_eq!(embed(vec![5; POSITIONS], 100_000).unwrap(), 2);
    let error = embed(vec![5; POSITIONS + 1], 100_000).unwrap_err();
    assert!(
        matches!(error, EmbedError::TooLong { tokens, tokens_max: POSITIONS } if tokens == POSITIONS + 1)
    );
}

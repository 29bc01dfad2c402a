//! The committed texts and vectors of sentence-transformers (`tests/golden/README.md`), and how vectors are compared.

use std::path::Path;

use engine::TokenIds;
use tokenizers::{Tokenizer, TruncationParams};

/// `max_seq_length` of the model's sentence_bert_config.json.
pub(crate) const TOKENS_MAX: usize = 256;

fn golden(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

pub(crate) fn read_vectors(width: usize) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(golden("vectors.f32")).unwrap();
    let values: Vec<_> =
        bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect();
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}

/// tokenizer.json ships with truncation and padding of its own, which are not what the model was trained with.
pub(crate) fn tokenize(model_dir: &Path) -> Vec<TokenIds> {
    let mut tokenizer = Tokenizer::from_file(model_dir.join("tokenizer.json")).unwrap();
    let truncation = TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() };
    tokenizer.with_padding(None).with_truncation(Some(truncation)).unwrap();
    std::fs::read_to_string(golden("texts.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let text: String = serde_json::from_str(line).unwrap();
            TokenIds::new(tokenizer.encode(text, true).unwrap().get_ids().to_vec()).unwrap()
        })
        .collect()
}

pub(crate) fn unit_norm(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / norm).collect()
}

pub(crate) fn largest_delta(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |max, delta| if delta <= max { max } else { delta })
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

//! A BERT of random weights, as a model directory: for tests that are not about what a vector means.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Words of its vocabulary, `w0`, `w1` and so on.
const WORDS: usize = 64;
const POSITIONS: usize = 64;
const LAYERS: usize = 2;
/// Width of a head: one that every tier computes.
const HEAD: usize = 32;

/// A model directory that goes away with this.
#[derive(Debug)]
pub struct TinyModel(TempDir);

impl TinyModel {
    /// A model of this many attention heads of 32 numbers. Equal seeds give equal weights.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn new(seed: u64, heads: usize) -> Self {
        Self::with_words(seed, heads, WORDS)
    }

    /// The same with a table of `words`, for a model that takes memory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn with_words(seed: u64, heads: usize, words: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut weights = Weights { seed, header: json!({}), bytes: Vec::new() };
        weights.bert(heads * HEAD, words);
        let write = |name: &str, json: Value| {
            std::fs::write(directory.path().join(name), json.to_string()).unwrap();
        };
        write("config.json", config(heads, words));
        write("tokenizer.json", tokenizer());
        std::fs::write(directory.path().join("model.safetensors"), weights.into_file()).unwrap();
        Self(directory)
    }

    /// The same with one file more.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn with_file(self, name: &str, json: &Value) -> Self {
        std::fs::write(self.path().join(name), json.to_string()).unwrap();
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory as an argument.
    ///
    /// # Panics
    /// If it is no Unicode.
    pub fn argument(&self) -> &str {
        self.path().to_str().unwrap()
    }

    /// What the model is called: the name of its directory.
    ///
    /// # Panics
    /// If it is no Unicode.
    pub fn id(&self) -> &str {
        self.path().file_name().unwrap().to_str().unwrap()
    }
}

fn config(heads: usize, words: usize) -> Value {
    json!({
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "vocab_size": words,
        "hidden_size": heads * HEAD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "intermediate_size": 2 * heads * HEAD,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    })
}

/// One token a word, `w0` for words it does not know.
fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<_, _> =
        (0..WORDS).map(|number| (format!("w{number}"), number.into())).collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    })
}

/// A safetensors file in the making: length of the header, header, numbers.
struct Weights {
    seed: u64,
    header: Value,
    bytes: Vec<u8>,
}

impl Weights {
    fn bert(&mut self, hidden: usize, words: usize) {
        for (table, rows) in [("word", words), ("position", POSITIONS), ("token_type", 2)] {
            self.add(&format!("embeddings.{table}_embeddings.weight"), &[rows, hidden], 0.0);
        }
        self.norm("embeddings.LayerNorm", hidden);
        for layer in 0..LAYERS {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                self.linear(&name(&format!("attention.{part}")), hidden, hidden);
            }
            self.norm(&name("attention.output.LayerNorm"), hidden);
            self.linear(&name("intermediate.dense"), hidden, 2 * hidden);
            self.linear(&name("output.dense"), 2 * hidden, hidden);
            self.norm(&name("output.LayerNorm"), hidden);
        }
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs], 0.0);
        self.add(&format!("{name}.bias"), &[outputs], 0.0);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width], 1.0);
        self.add(&format!("{name}.bias"), &[width], 0.0);
    }

    /// Numbers within 0.3 of `center`.
    fn add(&mut self, name: &str, shape: &[usize], center: f32) {
        let start = self.bytes.len();
        for _ in 0..shape.iter().product::<usize>() {
            let value = center + (self.random() - 0.5) * 0.6;
            self.bytes.extend(value.to_le_bytes());
        }
        let offsets = [start, self.bytes.len()];
        self.header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
    }

    /// From 0 to 1; a 64-bit linear congruential generator (Knuth's constants), of which the upper bits are good.
    fn random(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((self.seed >> 48) as u16) / f32::from(u16::MAX)
    }

    fn into_file(self) -> Vec<u8> {
        let header = self.header.to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &self.bytes].concat()
    }
}

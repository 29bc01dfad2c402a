//! A small BERT with random weights, as a model directory.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ids are below this.
pub(crate) const IDS: u32 = 97;
pub(crate) const VOCABULARY: usize = IDS as usize;
pub(crate) const POSITIONS: usize = 64;
pub(crate) const HIDDEN: usize = 48;
pub(crate) const INTERMEDIATE: usize = 80;
const LAYERS: usize = 3;
const HEADS: usize = 4;

/// Names of a checkpoint's parameters: `(prefix, norm weight, norm bias)`.
pub(crate) type Naming = (&'static str, &'static str, &'static str);
pub(crate) const CURRENT: Naming = ("", "weight", "bias");
pub(crate) const OLDER: Naming = ("bert.", "gamma", "beta");

pub(crate) struct RandomBert {
    pub(crate) config: Value,
    pub(crate) tensors: HashMap<String, Tensor>,
    random: StdRng,
    naming: Naming,
}

impl RandomBert {
    /// Weights from `seed`, which is printed so that a failure can be repeated.
    pub(crate) fn new(seed: u64, naming: Naming) -> Self {
        writeln_seed(seed);
        let random = StdRng::seed_from_u64(seed);
        let mut bert = Self { config: config(), tensors: HashMap::new(), random, naming };
        for (table, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)] {
            bert.add(&format!("embeddings.{table}_embeddings.weight"), &[rows, HIDDEN], 0.5, 0.0);
        }
        bert.norm("embeddings.LayerNorm");
        for layer in 0..LAYERS {
            bert.layer(&format!("encoder.layer.{layer}"));
        }
        bert
    }

    fn layer(&mut self, name: &str) {
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            self.linear(&format!("{name}.attention.{part}"), HIDDEN, HIDDEN);
        }
        self.norm(&format!("{name}.attention.output.LayerNorm"));
        self.linear(&format!("{name}.intermediate.dense"), HIDDEN, INTERMEDIATE);
        self.linear(&format!("{name}.output.dense"), INTERMEDIATE, HIDDEN);
        self.norm(&format!("{name}.output.LayerNorm"));
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs], 0.3, 0.0);
        self.add(&format!("{name}.bias"), &[outputs], 0.3, 0.0);
    }

    fn norm(&mut self, name: &str) {
        let (_, scale, shift) = self.naming;
        self.add(&format!("{name}.{scale}"), &[HIDDEN], 0.3, 1.0);
        self.add(&format!("{name}.{shift}"), &[HIDDEN], 0.3, 0.0);
    }

    fn add(&mut self, name: &str, shape: &[usize], span: f32, center: f32) {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| center + self.random.random_range(-span..span)).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        self.tensors.insert(format!("{}{name}", self.naming.0), tensor);
    }

    /// Writes the model directory.
    pub(crate) fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.write_to(dir.path());
        dir
    }

    pub(crate) fn write_to(&self, dir: &Path) {
        std::fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        candle_core::safetensors::save(&self.tensors, dir.join("model.safetensors")).unwrap();
    }
}

#[expect(clippy::print_stderr, reason = "shown by the test runner when the test fails")]
fn writeln_seed(seed: u64) {
    eprintln!("seed {seed}");
}

fn config() -> Value {
    json!({
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0
    })
}

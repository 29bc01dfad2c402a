//! candle-transformers' NomicBertModel, one text at a time: the oracle of rotary positions, pairs of neighbours too,
//! which Python's transformers does not have.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::nomic_bert::{Config, NomicBertModel};
use engine::{Compute, Engine, EngineConfig, Isa, Pooling, RaggedBatch, TokenIds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;
const VOCABULARY: u32 = 89;
const LENGTHS: [usize; 6] = [1, 2, 31, 64, 65, 300];

struct RandomNomic {
    config: Value,
    tensors: HashMap<String, Tensor>,
    random: StdRng,
}

impl RandomNomic {
    fn new(seed: u64, heads: usize, interleaved: bool) -> Self {
        let (hidden, inner) = (96, 80);
        let config = json!({
            "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "activation_function": "swiglu",
            "vocab_size": VOCABULARY, "n_embd": hidden, "n_head": heads, "n_layer": 2, "n_inner": inner,
            "n_positions": 8192, "type_vocab_size": 2, "layer_norm_epsilon": 1e-12, "rotary_emb_fraction": 1.0,
            "rotary_emb_base": 1000.0, "rotary_emb_interleaved": interleaved, "rotary_scaling_factor": null,
            "qkv_proj_bias": interleaved, "mlp_fc1_bias": interleaved, "mlp_fc2_bias": interleaved, "prenorm": false,
        });
        let mut nomic = Self { config, tensors: HashMap::new(), random: StdRng::seed_from_u64(seed) };
        nomic.add("embeddings.word_embeddings.weight", &[VOCABULARY as usize, hidden], 0.0);
        nomic.add("embeddings.token_type_embeddings.weight", &[2, hidden], 0.0);
        nomic.norm("emb_ln", hidden);
        for layer in 0..2 {
            let name = |part: &str| format!("encoder.layers.{layer}.{part}");
            nomic.linear(&name("attn.Wqkv"), 3 * hidden, hidden, interleaved);
            nomic.linear(&name("attn.out_proj"), hidden, hidden, interleaved);
            nomic.linear(&name("mlp.fc11"), inner, hidden, interleaved);
            nomic.linear(&name("mlp.fc12"), inner, hidden, interleaved);
            nomic.linear(&name("mlp.fc2"), hidden, inner, interleaved);
            nomic.norm(&name("norm1"), hidden);
            nomic.norm(&name("norm2"), hidden);
        }
        nomic
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize, has_bias: bool) {
        self.add(&format!("{name}.weight"), &[outputs, inputs], 0.0);
        if has_bias {
            self.add(&format!("{name}.bias"), &[outputs], 0.0);
        }
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width], 1.0);
        self.add(&format!("{name}.bias"), &[width], 0.0);
    }

    fn add(&mut self, name: &str, shape: &[usize], center: f32) {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| center + self.random.random_range(-0.2..0.2)).collect();
        self.tensors.insert(name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }

    fn oracle(&self, text: &TokenIds) -> Vec<f32> {
        let weights = VarBuilder::from_tensors(self.tensors.clone(), DType::F32, &Device::Cpu);
        let config: Config = serde_json::from_value(self.config.clone()).unwrap();
        let model = NomicBertModel::load(weights, &config).unwrap();
        let ids = Tensor::new(text.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        model.forward(&ids, None, None).unwrap().squeeze(0).unwrap().mean(0).unwrap().to_vec1().unwrap()
    }

    fn engine(&self, isa: Isa) -> Engine {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), self.config.to_string()).unwrap();
        candle_core::safetensors::save(&self.tensors, dir.path().join("model.safetensors")).unwrap();
        let config = EngineConfig {
            pooling: Pooling::Mean,
            tokens_max: 8192,
            compute: Compute::Float32,
            isa,
            threads: NonZeroUsize::MIN.into(),
        };
        Engine::load(dir.path(), &config).unwrap()
    }

    fn texts(&mut self, lengths: &[usize]) -> Vec<TokenIds> {
        let mut text = |length| (0..length).map(|_| self.random.random_range(0..VOCABULARY)).collect();
        lengths.iter().map(|&length| TokenIds::new(text(length)).unwrap()).collect()
    }
}

#[test]
fn both_kinds_of_pairs_equal_the_oracle_with_biases_and_without() {
    // Heads of 48 columns are padded to 64.
    for (seed, heads, interleaved) in [(1, 3, false), (2, 3, true), (3, 2, true), (4, 2, false)] {
        let mut nomic = RandomNomic::new(seed, heads, interleaved);
        let texts = nomic.texts(&LENGTHS);
        for isa in [Isa::Auto, Isa::Portable] {
            let vectors = nomic.engine(isa).embed(&RaggedBatch::new(&texts).unwrap()).unwrap();
            for (vector, text) in vectors.rows().zip(&texts) {
                for (found, wanted) in vector.iter().zip(nomic.oracle(text)) {
                    assert!((found - wanted).abs() <= TOLERANCE, "seed {seed}: {found} is not {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_text_of_8192_tokens_is_the_same_in_the_fastest_and_in_portable_code() {
    let mut nomic = RandomNomic::new(5, 3, false);
    let texts = nomic.texts(&[8192]);
    let embed = |isa| nomic.engine(isa).embed(&RaggedBatch::new(&texts).unwrap()).unwrap();
    let (fast, portable) = (embed(Isa::Auto), embed(Isa::Portable));
    for (fast, portable) in fast.rows().flatten().zip(portable.rows().flatten()) {
        assert!((fast - portable).abs() <= TOLERANCE, "{fast} is not {portable}");
    }
}

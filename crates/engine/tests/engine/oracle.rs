//! candle-transformers' BertModel, one text at a time, is what the ragged encoder must equal.

use std::num::NonZeroUsize;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use engine::{Compute, Engine, EngineConfig, Isa, Pooling, RaggedBatch, Threads, TokenIds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::random_bert::{CURRENT, IDS, OLDER, POSITIONS, RandomBert};

const TOLERANCE: f32 = 1e-5;

/// Every length from 1 to the last position, in random order.
fn random_texts(seed: u64) -> Vec<TokenIds> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut lengths: Vec<usize> = (1..=POSITIONS).collect();
    for index in (1..lengths.len()).rev() {
        lengths.swap(index, random.random_range(0..=index));
    }
    let mut text = |length| (0..length).map(|_| random.random_range(0..IDS)).collect();
    lengths.iter().map(|&length| TokenIds::new(text(length)).unwrap()).collect()
}

fn oracle(bert: &RandomBert, text: &TokenIds, pooling: Pooling) -> Vec<f32> {
    let weights = VarBuilder::from_tensors(bert.tensors.clone(), DType::F32, &Device::Cpu);
    let config: Config = serde_json::from_value(bert.config.clone()).unwrap();
    let model = BertModel::load(weights, &config).unwrap();
    let ids = Tensor::new(text.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap().squeeze(0).unwrap();
    let pooled = match pooling {
        Pooling::Mean => hidden.mean(0),
        Pooling::Cls => hidden.get(0),
        Pooling::Max => hidden.max(0),
        Pooling::LastToken => hidden.get(text.len() - 1),
        Pooling::MeanSqrtLen => hidden.sum(0).unwrap() / (text.len() as f64).sqrt(),
    };
    pooled.unwrap().to_vec1().unwrap()
}

fn engine(bert: &RandomBert, pooling: Pooling, threads: usize) -> Engine {
    engine_with(bert, pooling, NonZeroUsize::new(threads).unwrap().into())
}

fn engine_with(bert: &RandomBert, pooling: Pooling, threads: Threads) -> Engine {
    Engine::load(
        bert.write().path(),
        &EngineConfig { pooling, tokens_max: POSITIONS, compute: Compute::Float32, isa: Isa::Auto, threads },
    )
    .unwrap()
}

fn assert_close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= TOLERANCE, "{found} is not {wanted}");
    }
}

#[test]
fn mean_of_every_length_equals_the_oracle() {
    let bert = RandomBert::new(1, CURRENT);
    let texts = random_texts(2);
    let vectors = engine(&bert, Pooling::Mean, 2).embed(&RaggedBatch::new(&texts).unwrap()).unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (vector, text) in vectors.rows().zip(&texts) {
        assert_close(vector, &oracle(&bert, text, Pooling::Mean));
    }
}

#[test]
fn cls_of_every_length_equals_the_oracle() {
    let bert = RandomBert::new(3, CURRENT);
    let texts = random_texts(4);
    let vectors = engine(&bert, Pooling::Cls, 2).embed(&RaggedBatch::new(&texts).unwrap()).unwrap();
    for (vector, text) in vectors.rows().zip(&texts) {
        assert_close(vector, &oracle(&bert, text, Pooling::Cls));
    }
}

#[test]
fn a_checkpoint_with_older_names_gives_the_same_vectors() {
    let (bert, older) = (RandomBert::new(5, CURRENT), RandomBert::new(5, OLDER));
    let batch = RaggedBatch::new(&random_texts(6)).unwrap();
    let vectors = |bert| engine(bert, Pooling::Mean, 1).embed(&batch).unwrap();
    assert_eq!(vectors(&bert), vectors(&older));
}

#[test]
fn weights_stored_in_half_precision_are_computed_in_f32() {
    let mut bert = RandomBert::new(7, CURRENT);
    for tensor in bert.tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F16).unwrap();
    }
    let dir = bert.write();
    for tensor in bert.tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F32).unwrap();
    }
    let config = EngineConfig {
        pooling: Pooling::Mean,
        tokens_max: POSITIONS,
        compute: Compute::Float32,
        isa: Isa::Auto,
        threads: NonZeroUsize::MIN.into(),
    };
    let text = &random_texts(8)[0];
    let vectors =
        Engine::load(dir.path(), &config).unwrap().embed(&RaggedBatch::new([text]).unwrap()).unwrap();
    assert_close(vectors.rows().next().unwrap(), &oracle(&bert, text, Pooling::Mean));
}

#[test]
fn a_text_alone_and_in_a_batch_has_the_same_vector_on_any_number_of_threads() {
    let bert = RandomBert::new(9, CURRENT);
    let texts = random_texts(10);
    let batch = RaggedBatch::new(&texts).unwrap();
    let alone = engine(&bert, Pooling::Mean, 1);
    for (sure, spare) in [(1, 0), (2, 0), (5, 0), (1, 2), (2, 1)] {
        let threads = Threads { sure: NonZeroUsize::new(sure).unwrap(), spare };
        let engine = engine_with(&bert, Pooling::Mean, threads);
        let together = engine.embed(&batch).unwrap();
        for (vector, text) in together.rows().zip(&texts) {
            let single = RaggedBatch::new([text]).unwrap();
            let by_one_thread = alone.embed(&single).unwrap();
            assert_close(vector, by_one_thread.rows().next().unwrap());
            assert_eq!(engine.embed(&single).unwrap(), by_one_thread, "{threads:?}");
        }
    }
}

#[test]
fn callers_on_many_threads_share_one_engine() {
    let bert = RandomBert::new(11, CURRENT);
    let engine = engine(&bert, Pooling::Mean, 2);
    let texts = random_texts(12);
    let wanted = engine.embed(&RaggedBatch::new(&texts).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for (text, wanted) in texts.iter().zip(wanted.rows()) {
            let engine = &engine;
            scope.spawn(move || {
                let vectors = engine.embed(&RaggedBatch::new([text]).unwrap()).unwrap();
                assert_close(vectors.rows().next().unwrap(), wanted);
            });
        }
    });
}

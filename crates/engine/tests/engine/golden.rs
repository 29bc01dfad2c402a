//! The real model against the committed vectors of sentence-transformers (`tests/golden/README.md`).

use std::num::NonZeroUsize;

use engine::{Compute, Engine, EngineConfig, Isa, LoadError, Pooling, RaggedBatch, TokenIds};

use crate::golden_files::{TOKENS_MAX, cosine, largest_delta, read_vectors, tokenize, unit_norm};
use crate::model_dir::{model_dir, skip, variable};

/// Largest |Δ| of a component of a unit-norm vector, in float32.
const TOLERANCE: f32 = 1e-5;
/// Least cosine of a vector computed in bfloat16 to that of sentence-transformers in float32.
const COSINE_MIN: f32 = 0.9995;
/// Least mean cosine of vectors computed in int8, and the least of one.
const INT8_COSINE_MEAN: f32 = 0.995;
const INT8_COSINE_MIN: f32 = 0.97;
/// All that multiply int8.
const ISAS: [Isa; 4] = [Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Portable];
/// Largest |Δ| between a text alone and in a batch: only the order of additions within a product may differ.
const BATCH_TOLERANCE: f32 = 1e-6;
/// All that multiply float32, but for tiles.
const FLOAT32: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];
/// All that multiply bfloat16.
const BFLOAT16: [Isa; 2] = [Isa::Amx, Isa::Avx512];

struct Golden {
    engine: Engine,
    texts: Vec<TokenIds>,
    vectors: Vec<Vec<f32>>,
}

impl Golden {
    /// `None` where the model is not on this machine, or the CPU does not compute this way.
    /// For tiles that the CPU does not have, `cargo xtask prove` sets a variable: software takes a minute for each test.
    fn load_for(test: &str, compute: Compute, isa: Isa) -> Option<Self> {
        let dir = model_dir(test)?;
        if isa == Isa::Amx && variable("SUTRA_PROOF_TILES").is_some() {
            kernels::software_tiles::switch_on();
        }
        let config = EngineConfig {
            pooling: Pooling::Mean,
            tokens_max: TOKENS_MAX,
            compute,
            isa,
            threads: NonZeroUsize::new(2).unwrap().into(),
        };
        let engine = match Engine::load(&dir, &config) {
            Err(LoadError::Tier(missing)) => {
                skip(test, &missing.to_string());
                return None;
            }
            loaded => loaded.unwrap(),
        };
        let vectors = read_vectors(engine.width());
        Some(Self { engine, texts: tokenize(&dir), vectors })
    }

    /// Unit-norm vectors of the texts with these indices, as one batch.
    fn embed(&self, indices: &[usize]) -> Vec<Vec<f32>> {
        let batch = RaggedBatch::new(indices.iter().map(|&index| &self.texts[index])).unwrap();
        self.engine.embed(&batch).unwrap().rows().map(unit_norm).collect()
    }

    fn assert_matches(&self, indices: &[usize]) {
        for (&index, vector) in indices.iter().zip(self.embed(indices)) {
            let delta = largest_delta(&vector, &self.vectors[index]);
            assert!(delta <= TOLERANCE, "text {index} is {delta:e} off in {} texts", indices.len());
        }
    }
}

/// Runs `check` with float32 as each code computes it.
fn in_float32(test: &str, check: impl Fn(&Golden)) {
    for golden in FLOAT32.into_iter().filter_map(|isa| Golden::load_for(test, Compute::Float32, isa)) {
        check(&golden);
    }
}

#[test]
fn goldens_cover_short_long_and_truncated_texts() {
    in_float32("goldens_cover_short_long_and_truncated_texts", |golden| {
        assert_eq!(golden.texts.len(), golden.vectors.len());
        assert!(golden.texts.len() >= 72);
        assert!(golden.texts.iter().any(|text| text.len() == 2), "an empty text");
        assert!(
            golden.texts.iter().filter(|text| text.len() == TOKENS_MAX).count() >= 5,
            "texts cut at the limit"
        );
    });
}

#[test]
fn goldens_match_alone() {
    in_float32("goldens_match_alone", |golden| {
        for index in 0..golden.texts.len() {
            golden.assert_matches(&[index]);
        }
    });
}

#[test]
fn goldens_match_in_one_batch() {
    in_float32("goldens_match_in_one_batch", |golden| {
        golden.assert_matches(&(0..golden.texts.len()).collect::<Vec<_>>());
    });
}

#[test]
fn goldens_match_in_another_order() {
    in_float32("goldens_match_in_another_order", |golden| {
        let texts = golden.texts.len();
        // 7 and the number of texts have no common divisor, so that each comes up once.
        assert!(!texts.is_multiple_of(7));
        golden.assert_matches(&(0..texts).map(|index| index * 7 % texts).collect::<Vec<_>>());
    });
}

#[test]
fn goldens_in_bfloat16_point_the_same_way_with_all_instructions() {
    let test = "goldens_in_bfloat16_point_the_same_way_with_all_instructions";
    for golden in BFLOAT16.iter().filter_map(|isa| Golden::load_for(test, Compute::Bfloat16, *isa)) {
        let with = golden.engine.computes_with();
        for (index, vector) in golden.embed(&(0..golden.texts.len()).collect::<Vec<_>>()).iter().enumerate() {
            let cosine = cosine(vector, &golden.vectors[index]);
            assert!(cosine >= COSINE_MIN, "{with}: text {index} has cosine {cosine}");
        }
    }
}

#[test]
fn goldens_in_int8_point_nearly_the_same_way_with_all_instructions() {
    let test = "goldens_in_int8_point_nearly_the_same_way_with_all_instructions";
    for isa in ISAS {
        let Some(golden) = Golden::load_for(test, Compute::Int8, isa) else { continue };
        let vectors = golden.embed(&(0..golden.texts.len()).collect::<Vec<_>>());
        let cosines: Vec<f32> =
            vectors.iter().zip(&golden.vectors).map(|(found, expected)| cosine(found, expected)).collect();
        let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
        let min = cosines.iter().copied().fold(1.0, f32::min);
        let with = golden.engine.computes_with();
        assert!(mean >= INT8_COSINE_MEAN && min >= INT8_COSINE_MIN, "{with}: mean {mean}, least {min}");
    }
}

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    let test = "a_vector_does_not_depend_on_its_batch";
    let isas = |compute| match compute {
        Compute::Bfloat16 => &BFLOAT16[..],
        Compute::Float32 | Compute::Int8 => &Isa::ALL[..],
    };
    let ways =
        Compute::ALL.into_iter().flat_map(|compute| isas(compute).iter().map(move |isa| (compute, *isa)));
    for golden in ways.filter_map(|(compute, isa)| Golden::load_for(test, compute, isa)) {
        let together = golden.embed(&(0..golden.texts.len()).collect::<Vec<_>>());
        for (index, vector) in together.iter().enumerate() {
            let delta = largest_delta(vector, &golden.embed(&[index])[0]);
            assert!(delta <= BATCH_TOLERANCE, "text {index} is {delta:e} off");
        }
    }
}

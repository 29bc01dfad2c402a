//! Model directories that hold only ONNX, and engines on them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use engine::{Compute, Engine, EngineConfig, Isa, LoadError, Pooling, RaggedBatch, TokenIds};
use tempfile::TempDir;

use crate::model_dir::{skip, variable};

/// The committed model and what belongs to it (`scripts/onnx_models.py`).
pub(crate) fn tiny_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

/// A directory with config.json and one file of the committed model under the name `to`.
pub(crate) fn directory(from: &str, to: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(tiny_files().join("config.json"), dir.path().join("config.json")).unwrap();
    fs::create_dir_all(dir.path().join(to).parent().unwrap()).unwrap();
    fs::copy(tiny_files().join(from), dir.path().join(to)).unwrap();
    dir
}

/// Whether the library is there; else the test `name` says that it is not.
pub(crate) fn has_library(name: &str) -> bool {
    let found = variable("ORT_DYLIB_PATH").is_some_and(|path| Path::new(&path).is_file());
    if !found {
        let reason = "ORT_DYLIB_PATH names no library of ONNX Runtime";
        assert!(variable("SUTRA_REQUIRE_ONNXRUNTIME").is_none(), "{name}: {reason}");
        skip(&format!("onnx::{name}"), reason);
    }
    found
}

pub(crate) fn config(compute: Compute) -> EngineConfig {
    EngineConfig {
        pooling: Pooling::Mean,
        tokens_max: 256,
        compute,
        isa: Isa::Auto,
        threads: NonZeroUsize::new(2).unwrap().into(),
    }
}

pub(crate) fn load(dir: &Path, compute: Compute) -> Result<Engine, LoadError> {
    Engine::load(dir, &config(compute))
}

/// The vectors of these texts as one batch.
pub(crate) fn embed<'a>(engine: &Engine, texts: impl IntoIterator<Item = &'a TokenIds>) -> Vec<Vec<f32>> {
    let batch = RaggedBatch::new(texts).unwrap();
    engine.embed(&batch).unwrap().rows().map(<[f32]>::to_vec).collect()
}

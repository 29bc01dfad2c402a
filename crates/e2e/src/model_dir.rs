//! Where the real model is, and what a test does where it is not.

use std::path::{Path, PathBuf};

use crate::skip::{skip, variable};

const MODEL: &str = ".sutra/models/sentence-transformers--all-MiniLM-L6-v2";

/// The directory of all-MiniLM-L6-v2: `SUTRA_TEST_MODEL_DIR`, else where `cargo xtask test` puts it.
///
/// Where there is none, the test `name` says so, on stderr and as a line of the file `SUTRA_SKIP_LOG`, and gets `None`.
///
/// # Panics
/// If there is none and `SUTRA_REQUIRE_MODEL` is set.
pub fn model_dir(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = variable("SUTRA_TEST_MODEL_DIR").map_or_else(|| workspace.join(MODEL), PathBuf::from);
    if directory.join("model.safetensors").exists() {
        // A relative path would read as a model's name.
        return Some(directory.canonicalize().unwrap());
    }
    let reason = format!("model not found at {}; run cargo xtask test", directory.display());
    skip(name, &reason, "SUTRA_REQUIRE_MODEL");
    None
}

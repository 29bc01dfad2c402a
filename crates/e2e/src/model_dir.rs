//! Where the real model is, and what a test does where it is not.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

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
    let skipped = format!("e2e::{name}: model not found at {}; run cargo xtask test\n", directory.display());
    assert!(variable("SUTRA_REQUIRE_MODEL").is_none(), "{skipped}");
    if let Some(log) = variable("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    None
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

//! Where the real model is, and what a test does where it is not.

use std::io::Write;
use std::path::{Path, PathBuf};

const MODEL: &str = ".sutra/models/sentence-transformers--all-MiniLM-L6-v2";

/// The directory of all-MiniLM-L6-v2: `SUTRA_TEST_MODEL_DIR`, else where `cargo xtask test` puts it.
///
/// Where there is none, the test `name` says so, on stderr and as a line of the file `SUTRA_SKIP_LOG`, and gets `None`;
/// with `SUTRA_REQUIRE_MODEL` set it panics.
pub(crate) fn model_dir(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = variable("SUTRA_TEST_MODEL_DIR").map_or_else(|| workspace.join(MODEL), PathBuf::from);
    if dir.join("model.safetensors").exists() {
        return Some(dir);
    }
    let reason = format!("model not found at {}; run cargo xtask test", dir.display());
    assert!(variable("SUTRA_REQUIRE_MODEL").is_none(), "{name}: {reason}");
    skip(name, &reason);
    None
}

/// Says that the test `name` does not run, or only in part, on stderr and as a line of the file `SUTRA_SKIP_LOG`.
pub(crate) fn skip(name: &str, reason: &str) {
    let skipped = format!("engine::{name}: {reason}\n");
    if let Some(log) = variable("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

//! Models that ship only ONNX: a small one with random weights against transformers, all-MiniLM-L6-v2 against
//! sentence-transformers and against this crate's own encoder, and what is refused.
//!
//! The library of ONNX Runtime is the one that `ORT_DYLIB_PATH` names. Where it is not there, a test says so and ends; with
//! `SUTRA_REQUIRE_ONNXRUNTIME` set it fails.

#![expect(clippy::unwrap_used, reason = "what fails in a test's own functions fails the test")]

#[path = "engine/golden_files.rs"]
mod golden_files;
#[path = "engine/model_dir.rs"]
mod model_dir;
#[path = "onnx/directory.rs"]
mod directory;

#[path = "onnx/real.rs"]
mod real;
#[path = "onnx/refused.rs"]
mod refused;
#[path = "onnx/tiny.rs"]
mod tiny;

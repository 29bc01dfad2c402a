//! Models that ship only ONNX, computed by ONNX Runtime: the same batches in, the same pooling out.
//!
//! ```text
//!  RaggedBatch ─▶ rectangles of similar lengths ─▶ session (ids, mask) ─▶ hidden states, padding left out ─▶ pooling
//! ```
//! Which files there are is known to every build; computing them needs the feature `onnx`, and a library that is found at
//! run time.

mod files;

#[cfg(feature = "onnx")]
mod sizes;

#[cfg(feature = "onnx")]
mod library;
#[cfg(feature = "onnx")]
mod model;
#[cfg(feature = "onnx")]
mod rectangles;

use std::path::Path;

use crate::compute::{Compute, Isa, Plan};
use crate::error::LoadError;

pub use files::onnx_files;
#[cfg(feature = "onnx")]
pub(crate) use model::OnnxModel;
#[cfg(feature = "onnx")]
pub(crate) use sizes::Sizes;

/// Whether this build computes models that ship only ONNX.
pub const COMPUTES_ONNX: bool = cfg!(feature = "onnx");

/// What it is computed with, as [`Plan::computes_with`] names it.
#[cfg(feature = "onnx")]
pub(crate) const ONNX_RUNTIME: &str = "onnxruntime";

/// What a model that ships only ONNX would be. The library is not asked for.
///
/// # Errors
/// [`LoadError::OnnxFile`] where there is no file for `compute`, [`LoadError::OnnxIsa`] where instructions are forced.
#[cfg(feature = "onnx")]
pub(crate) fn plan(model_dir: &Path, compute: Compute, isa: Isa) -> Result<Plan, LoadError> {
    files::choose(model_dir, compute, isa)?;
    let sizes = Sizes::read(&model_dir.join("config.json"))?;
    Ok(Plan { compute, computes_with: ONNX_RUNTIME, width: sizes.hidden, tokens_max: sizes.tokens_max })
}

/// The same in a build without ONNX Runtime: always refused.
#[cfg(not(feature = "onnx"))]
pub(crate) fn plan(model_dir: &Path, compute: Compute, isa: Isa) -> Result<Plan, LoadError> {
    Err(not_built(model_dir, compute, isa))
}

/// Why a build without ONNX Runtime does not load the model.
#[cfg(not(feature = "onnx"))]
pub(crate) fn not_built(model_dir: &Path, compute: Compute, isa: Isa) -> LoadError {
    match files::choose(model_dir, compute, isa) {
        Ok(file) => LoadError::OnnxNotBuilt { file },
        Err(error) => error,
    }
}

//! Which files of a model directory are its weights in ONNX.

use std::path::{Path, PathBuf};

use crate::compute::{Compute, Isa};
use crate::error::LoadError;

/// Names of float32 files; the first that is there is taken.
const FLOAT32: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// The same for int8: as the exporters of optimum, transformers.js and sentence-transformers name them. Where there are
/// several for different CPUs, the one for AVX-512 comes first.
const INT8: [&str; 9] = [
    "model_int8.onnx",
    "onnx/model_int8.onnx",
    "model_quantized.onnx",
    "onnx/model_quantized.onnx",
    "onnx/model_qint8_avx512_vnni.onnx",
    "onnx/model_qint8_avx512.onnx",
    "onnx/model_quint8_avx2.onnx",
    "onnx/model_qint8_arm64.onnx",
    "onnx/model_uint8.onnx",
];

/// The ONNX files that an engine would take of a model that ships only ONNX: for float32, then for int8, at most one each.
/// None where there is `model.safetensors`, which this crate computes itself.
#[must_use]
pub fn onnx_files(model_dir: &Path) -> Vec<&'static str> {
    if model_dir.join("model.safetensors").exists() {
        return Vec::new();
    }
    [&FLOAT32[..], &INT8].into_iter().filter_map(|names| first(model_dir, names)).collect()
}

fn first(model_dir: &Path, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| model_dir.join(name).is_file())
}

/// The file to load for `compute`.
pub(super) fn choose(model_dir: &Path, compute: Compute, isa: Isa) -> Result<PathBuf, LoadError> {
    let wanted = match compute {
        Compute::Float32 => &FLOAT32[..],
        Compute::Int8 => &INT8,
        Compute::Bfloat16 => &[],
    };
    let missing = || LoadError::OnnxFile {
        directory: model_dir.to_owned(),
        compute: compute.name(),
        found: onnx_files(model_dir),
    };
    let file = model_dir.join(first(model_dir, wanted).ok_or_else(missing)?);
    match isa {
        Isa::Auto => Ok(file),
        Isa::Amx | Isa::Avx512 | Isa::Avx2 | Isa::Portable => {
            Err(LoadError::OnnxIsa { file, forced: isa.name() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("onnx")).unwrap();
        files.iter().for_each(|file| fs::write(dir.path().join(file), "").unwrap());
        dir
    }

    #[test]
    fn one_file_is_taken_for_each_class_and_none_beside_safetensors() {
        let files = ["onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_qint8_arm64.onnx"];
        assert_eq!(onnx_files(directory(&files).path()), ["onnx/model.onnx", "onnx/model_quantized.onnx"]);
        let with_safetensors = directory(&["model.onnx", "model.safetensors"]);
        assert!(onnx_files(with_safetensors.path()).is_empty());
    }

    #[test]
    fn a_class_without_a_file_is_refused_with_the_files_there_are() {
        let dir = directory(&["model_int8.onnx"]);
        for compute in [Compute::Float32, Compute::Bfloat16] {
            let error = choose(dir.path(), compute, Isa::Auto).unwrap_err().to_string();
            assert!(error.contains(compute.name()) && error.contains("model_int8.onnx"), "{error}");
        }
        assert!(choose(dir.path(), Compute::Int8, Isa::Auto).unwrap().ends_with("model_int8.onnx"));
    }

    #[test]
    fn forced_instructions_are_refused() {
        let dir = directory(&["model.onnx"]);
        let error = choose(dir.path(), Compute::Float32, Isa::Portable).unwrap_err().to_string();
        assert!(error.contains("model.onnx") && error.contains("forced to portable"), "{error}");
    }
}

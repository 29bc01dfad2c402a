//! Weights read from a memory-mapped safetensors file, each checked against the shape that config.json implies.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::config::Names;
use crate::error::LoadError;

/// safetensors' own bound on the header, so that a damaged length is not allocated.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// The file begins with the length of its header as a little-endian u64.
const LENGTH_BYTES: u64 = 8;

/// A mapped weights file. It is unmapped once the model is loaded.
pub(crate) struct Weights {
    tensors: MmapedSafetensors,
    prefix: &'static str,
    file: PathBuf,
}

impl Weights {
    /// Checks the lengths in the header against the file, then maps it.
    pub(crate) fn open(file: &Path, names: &Names) -> Result<Self, LoadError> {
        refuse_truncated(file)?;
        let tensors = map(file)?;
        let has = |prefix: &&&str| tensors.get(&format!("{prefix}{}.weight", names.words)).is_ok();
        let prefix = names.prefixes.iter().find(has).copied().unwrap_or_default();
        Ok(Self { tensors, prefix, file: file.to_owned() })
    }

    /// The tensor `name` in f32, copied out of the map.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let view = self
            .tensors
            .get(&name)
            .map_err(|_| LoadError::MissingTensor { file: self.file.clone(), name: name.clone() })?;
        if view.shape() != shape {
            let (found, wanted) = (view.shape().to_vec(), shape.to_vec());
            return Err(LoadError::WrongShape { file: self.file.clone(), name, found, wanted });
        }
        to_f32(view.dtype(), view.data()).ok_or_else(|| {
            let found = format!("{:?}", view.dtype());
            LoadError::WrongType { file: self.file.clone(), name, found }
        })
    }

    /// The one-dimensional tensor `name`.
    pub(crate) fn row(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        self.values(name, &[length])
    }

    /// As [`row`](Self::row) of the first of two names that is there: older checkpoints call the parameters of a norm
    /// `gamma` and `beta`.
    pub(crate) fn row_of_either(
        &self,
        name: &str,
        older: &str,
        length: usize,
    ) -> Result<Vec<f32>, LoadError> {
        let has_older = self.tensors.get(&format!("{}{older}", self.prefix)).is_ok();
        self.row(if has_older { older } else { name }, length)
    }
}

/// Values of a float type, little-endian; none of another type.
fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = bytes.chunks_exact(2).map(|bytes| [bytes[0], bytes[1]]);
    if dtype == Dtype::F32 {
        let words = bytes.chunks_exact(4).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
        Some(words.map(f32::from_le_bytes).collect())
    } else if dtype == Dtype::F16 {
        Some(halves.map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect())
    } else if dtype == Dtype::BF16 {
        Some(halves.map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect())
    } else {
        None
    }
}

#[expect(unsafe_code, reason = "a memory map is unsafe in every crate that offers one")]
fn map(file: &Path) -> Result<MmapedSafetensors, LoadError> {
    // SAFETY: The mapped bytes must not change while they are mapped. Nothing in this process writes model files, and
    // they are put in place by renaming a finished file, never written in place. The map lives only while the model
    // is loaded: every tensor is copied out of it.
    let mapped = unsafe { MmapedSafetensors::new(file) };
    mapped.map_err(|error| LoadError::Header { file: file.to_owned(), reason: error.to_string() })
}

/// A shorter file must be found here: touching a page of a map that lies beyond its end kills the process.
fn refuse_truncated(file: &Path) -> Result<(), LoadError> {
    let read = |source| LoadError::reading(file, source);
    let header = |reason: String| LoadError::Header { file: file.to_owned(), reason };
    let mut handle = File::open(file).map_err(read)?;
    let found_bytes = handle.metadata().map_err(read)?.len();
    let at_least = |wanted_bytes: u64| {
        if found_bytes < wanted_bytes {
            return Err(LoadError::Truncated { file: file.to_owned(), found_bytes, wanted_bytes });
        }
        Ok(())
    };

    at_least(LENGTH_BYTES)?;
    let mut length = 0_u64.to_le_bytes();
    handle.read_exact(&mut length).map_err(read)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(header(format!(
            "its length is {header_bytes} bytes, at most {HEADER_BYTES_MAX} are allowed"
        )));
    }
    at_least(LENGTH_BYTES + header_bytes)?;

    let mut json = Vec::new();
    handle.take(header_bytes).read_to_end(&mut json).map_err(read)?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| header(error.to_string()))?;
    at_least(LENGTH_BYTES + header_bytes + metadata.data_len() as u64)
}

//! Verification of a model directory, before anything in it is mapped.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use super::catalog::FilePin;
use super::digest::Sha256;
use super::error::FileFault;
use super::files;
use super::sums::Sums;

/// Longest header that is read: what the safetensors library accepts.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Checks the files that `pins` name, and gives their sums. A pin's sum rules; where it has none, the one of `recorded`
/// does; where there is neither, only the structure is checked.
pub(super) fn directory(
    directory: &Path,
    pins: &[FilePin],
    recorded: Option<&Sums>,
) -> Result<Sums, FileFault> {
    let mut sums = Sums::default();
    for pin in pins {
        let recorded = recorded.and_then(|recorded| recorded.get(&pin.name));
        if !directory.join(&pin.name).is_file() {
            if files::is_required(&pin.name) || recorded.is_some() {
                return Err(FileFault::Missing { name: pin.name.clone(), directory: directory.to_owned() });
            }
            continue;
        }
        sums.insert(&pin.name, file(directory, pin, recorded)?);
    }
    Ok(sums)
}

fn file(directory: &Path, pin: &FilePin, recorded: Option<Sha256>) -> Result<Sha256, FileFault> {
    let path = directory.join(&pin.name);
    let failed = |error| FileFault::read(&pin.name, error);
    let found = path.metadata().map_err(failed)?.len();
    if let Some(wanted) = pin.bytes.filter(|wanted| *wanted != found) {
        return Err(FileFault::Size { name: pin.name.clone(), found, says: "wanted", wanted });
    }
    if pin.name == files::WEIGHTS {
        weights(&path)?;
    }
    let sum = Sha256::of_file(&path).map_err(failed)?;
    compare(&pin.name, sum, pin.sha256.or(recorded))?;
    Ok(sum)
}

/// Refuses a file whose sum is not the wanted one.
pub(super) fn compare(name: &str, found: Sha256, wanted: Option<Sha256>) -> Result<(), FileFault> {
    match wanted {
        Some(wanted) if wanted != found => Err(FileFault::Sum { name: name.to_owned(), found, wanted }),
        _ => Ok(()),
    }
}

/// One entry of the safetensors header. `__metadata__` has no offsets.
#[derive(Deserialize)]
struct Tensor {
    #[serde(default)]
    shape: Vec<u64>,
    #[serde(default)]
    data_offsets: (u64, u64),
}

/// How many numbers the weights hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// In the tables of embeddings, and in vectors.
    pub tables: u64,
    /// In all other matrices.
    pub matrices: u64,
}

impl Values {
    /// Counts by the header of a file that was verified.
    pub(super) fn count(path: &Path) -> Result<Self, FileFault> {
        let mut values = Self::default();
        for (name, tensor) in header(path)?.tensors {
            let count = tensor.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size));
            let is_matrix = tensor.shape.len() > 1 && !name.contains("embeddings");
            let sum = if is_matrix { &mut values.matrices } else { &mut values.tables };
            *sum = sum.saturating_add(if tensor.shape.is_empty() { 0 } else { count });
        }
        Ok(values)
    }
}

/// What a safetensors file says of itself.
struct Header {
    tensors: HashMap<String, Tensor>,
    /// Bytes in front of the tensors.
    bytes: u64,
}

/// Checks that a safetensors file is as long as its header says: 8 bytes of header length, the header, the tensors.
pub(super) fn weights(path: &Path) -> Result<(), FileFault> {
    let Header { tensors, bytes } = header(path)?;
    let found = path.metadata().map_err(|error| FileFault::read(files::WEIGHTS, error))?.len();
    let end = tensors.values().map(|tensor| tensor.data_offsets.1).max().unwrap_or(0);
    let wanted = end.saturating_add(bytes);
    if found == wanted { Ok(()) } else { Err(size(found, "its header wants", wanted)) }
}

fn size(found: u64, says: &'static str, wanted: u64) -> FileFault {
    FileFault::Size { name: files::WEIGHTS.into(), found, says, wanted }
}

fn header(path: &Path) -> Result<Header, FileFault> {
    let failed = |error| FileFault::read(files::WEIGHTS, error);
    let mut file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    let mut prefix = [0; 8];
    match file.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(size(found, "its header wants at least", 8));
        }
        read => read.map_err(failed)?,
    }
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > HEADER_BYTES_MAX {
        let reason = format!("not safetensors: a header of {header_bytes} bytes, at most {HEADER_BYTES_MAX}");
        return Err(FileFault::content(files::WEIGHTS, reason));
    }
    if found < 8 + header_bytes {
        return Err(size(found, "its header wants at least", 8 + header_bytes));
    }
    let mut header = Vec::new();
    file.take(header_bytes).read_to_end(&mut header).map_err(failed)?;
    let tensors = serde_json::from_slice(&header)
        .map_err(|error| FileFault::content(files::WEIGHTS, format!("not safetensors: {error}")))?;
    Ok(Header { tensors, bytes: 8 + header_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights_of(tensor_bytes: u64, file_bytes: usize) -> Result<(), String> {
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"w":{{"dtype":"U8","shape":[{tensor_bytes}],"data_offsets":[0,{tensor_bytes}]}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(file_bytes, 0);
        check(&bytes)
    }

    fn check(bytes: &[u8]) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        weights(file.path()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn file_as_long_as_its_header_says_is_accepted() {
        let wanted = "model.safetensors: 1000 bytes, its header wants ";
        let fault = weights_of(900, 1000).unwrap_err();
        assert!(fault.starts_with(wanted), "{fault}");
        let length = fault.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(weights_of(900, length), Ok(()));
        assert!(weights_of(900, length + 1).is_err());
    }

    #[test]
    fn numbers_are_counted_apart_in_tables_and_in_matrices() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "embeddings.word_embeddings.weight":{"dtype":"F16","shape":[10,4],"data_offsets":[0,80]},
            "encoder.layer.0.output.dense.weight":{"dtype":"F16","shape":[4,8],"data_offsets":[80,144]},
            "encoder.layer.0.output.dense.bias":{"dtype":"F16","shape":[4],"data_offsets":[144,152]}}"#;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())
            .unwrap();
        assert_eq!(Values::count(file.path()).unwrap(), Values { tables: 44, matrices: 32 });
    }

    #[test]
    fn file_cut_inside_its_header_is_refused() {
        assert_eq!(check(b"abc").unwrap_err(), "model.safetensors: 3 bytes, its header wants at least 8");
        let fault = check(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap_err();
        assert_eq!(fault, "model.safetensors: 9 bytes, its header wants at least 17");
    }

    #[test]
    fn what_is_no_safetensors_is_named() {
        let fault = check(b"<!DOCTYPE html><html></html>").unwrap_err();
        assert!(fault.starts_with("model.safetensors: not safetensors: a header of "), "{fault}");
        let fault = check(&[1, 0, 0, 0, 0, 0, 0, 0, b'x']).unwrap_err();
        assert!(fault.starts_with("model.safetensors: not safetensors: expected value"), "{fault}");
    }
}

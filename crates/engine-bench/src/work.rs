//! How much a model computes for a token, read from the shapes of its weights.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::Metadata;

/// Far more than the header of any encoder.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Operations of the linear layers for one token; a multiply-add counts as two. Embeddings, attention and what is done
/// value by value are not counted.
///
/// # Errors
/// Where the weights in `model_dir` cannot be read.
pub(crate) fn linear_operations_per_token(model_dir: &Path) -> Result<f64> {
    Ok(2.0 * count(model_dir, is_matrix_of_a_layer)? as f64)
}

/// Bytes of all weights where those of the linear layers have `weight_bytes` each and all others are float32.
///
/// # Errors
/// Where the weights in `model_dir` cannot be read.
pub(crate) fn weights_bytes(model_dir: &Path, weight_bytes: u64) -> Result<u64> {
    let linear = count(model_dir, is_matrix_of_a_layer)? as u64;
    let all = count(model_dir, |_, _| true)? as u64;
    Ok(linear * weight_bytes + (all - linear) * 4)
}

/// The weights of all tensors, by name and shape, that `counts`.
fn count(model_dir: &Path, counts: impl Fn(&str, &[usize]) -> bool) -> Result<usize> {
    let file = model_dir.join("model.safetensors");
    let metadata = read_header(&file).with_context(|| format!("weights {}", file.display()))?;
    let tensors = metadata.tensors().into_iter();
    let counted = tensors.filter(|(name, tensor)| counts(name, &tensor.shape));
    Ok(counted.map(|(_, tensor)| tensor.shape.iter().product::<usize>()).sum())
}

fn is_matrix_of_a_layer(name: &str, shape: &[usize]) -> bool {
    is_of_a_layer(name) && shape.len() == 2
}

/// `encoder.layer.3.…` in most encoders, `encoder.layers.3.…` and `layers.3.…` in others.
fn is_of_a_layer(name: &str) -> bool {
    let mut words = name.split('.');
    words.any(|word| word == "layer" || word == "layers")
        && words.next().is_some_and(|number| number.parse::<u32>().is_ok())
}

fn read_header(file: &Path) -> Result<Metadata> {
    let mut file = File::open(file)?;
    let mut length = 0_u64.to_le_bytes();
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= HEADER_BYTES_MAX, "a header of {length} bytes, at most {HEADER_BYTES_MAX} are read");
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(serde_json::from_slice(&header)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

    use super::*;

    #[test]
    fn only_matrices_of_layers_are_counted() {
        let bytes = vec![0_u8; 4 * 6];
        let tensor = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
        let tensors = HashMap::from([
            ("encoder.layer.0.attention.query.weight", tensor(&[2, 3])),
            ("encoder.layer.0.attention.query.bias", tensor(&[6])),
            ("layers.11.fc.weight", tensor(&[3, 2])),
            ("embeddings.word_embeddings.weight", tensor(&[2, 3])),
            ("pooler.dense.weight", tensor(&[3, 2])),
        ]);
        let folder = tempfile::tempdir().unwrap();
        serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).unwrap();
        assert_eq!(linear_operations_per_token(folder.path()).unwrap(), 24.0);
        assert_eq!(weights_bytes(folder.path(), 1).unwrap(), 12 + 3 * 6 * 4);
    }
}

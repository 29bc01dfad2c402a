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
    let file = model_dir.join("model.safetensors");
    let metadata = read_header(&file).with_context(|| format!("weights {}", file.display()))?;
    let of_a_layer = metadata.tensors().into_iter().filter(|(name, _)| is_of_a_layer(name));
    let matrices = of_a_layer.filter(|(_, tensor)| tensor.shape.len() == 2);
    Ok(2.0 * matrices.map(|(_, tensor)| tensor.shape.iter().product::<usize>()).sum::<usize>() as f64)
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
    }
}

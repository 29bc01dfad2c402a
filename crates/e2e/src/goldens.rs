//! The committed vectors of sentence-transformers, which the engine's own tests read too.

use std::path::Path;

/// Largest |Δ| of a component of a unit-norm vector.
const TOLERANCE: f32 = 1e-5;

/// A text and its vector by sentence-transformers.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The text; a request may hold it.
    pub text: String,
    /// Its unit-norm vector: (width).
    pub vector: Vec<f32>,
}

impl Golden {
    /// Asserts that `row` is this text's vector; `how` says in the message how it was asked for.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_is(&self, row: &[f32], how: &str) {
        let delta = largest_delta(row, &self.vector);
        let shown: String = self.text.chars().take(40).collect();
        assert!(delta <= TOLERANCE, "{shown:?} is {delta:e} off {how}");
    }
}

/// The golden texts that a request may hold: all but the empty one and those with a NUL character.
///
/// # Panics
/// If their files cannot be read.
pub fn goldens() -> Vec<Golden> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
    let texts = std::fs::read_to_string(directory.join("texts.jsonl")).unwrap();
    let texts: Vec<String> = texts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bytes = std::fs::read(directory.join("vectors.f32")).unwrap();
    let numbers: Vec<f32> =
        bytes.chunks_exact(4).map(|number| f32::from_le_bytes(number.try_into().unwrap())).collect();
    let vectors = numbers.chunks_exact(numbers.len() / texts.len());
    let goldens = texts.into_iter().zip(vectors);
    let goldens = goldens.map(|(text, vector)| Golden { text, vector: vector.to_vec() });
    goldens.filter(|golden| !golden.text.is_empty() && !golden.text.contains('\0')).collect()
}

/// The largest |Δ| of two vectors of one length; infinite where one has a NaN.
///
/// # Panics
/// If their lengths differ.
pub fn largest_delta(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    let deltas = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    deltas.fold(0.0, |largest, delta| if delta.is_nan() { f32::INFINITY } else { largest.max(delta) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_is_never_equal() {
        assert!(largest_delta(&[f32::NAN, 0.0], &[0.0, 0.0]).is_infinite());
        assert!(largest_delta(&[0.0, f32::NAN, 1.0], &[0.0, 0.0, 1.0]).is_infinite());
        assert_eq!(largest_delta(&[0.0, 1.0], &[0.5, 1.0]), 0.5);
    }

    #[test]
    fn goldens_are_unit_norm() {
        let goldens = goldens();
        assert!(goldens.len() >= 64);
        for golden in goldens {
            let norm = golden.vector.iter().map(|number| number * number).sum::<f32>().sqrt();
            assert!((norm - 1.0).abs() < 1e-4, "{:?} has norm {norm}", golden.text);
        }
    }
}

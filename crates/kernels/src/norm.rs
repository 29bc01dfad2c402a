//! Layer norm over rows of f32.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::activations::Activations;
#[cfg(target_arch = "x86_64")]
use crate::tier::Kind;

/// `(v - mean) / √(variance + ε) · scale + shift` over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// A norm of rows as wide as `scale`.
    ///
    /// # Panics
    /// If `scale` and `shift` differ in length, or are empty.
    #[must_use]
    pub fn new(scale: &[f32], shift: &[f32], epsilon: f32) -> Self {
        assert!(
            !scale.is_empty() && scale.len() == shift.len(),
            "scale {}, shift {}",
            scale.len(),
            shift.len()
        );
        Self { scale: scale.to_vec(), shift: shift.to_vec(), epsilon }
    }

    /// Normalises `rows` `(rows, width)` where they are, and copies them into `to` for the next product.
    ///
    /// # Panics
    /// If `rows` are no whole number of rows.
    pub fn apply(&self, rows: &mut [f32], to: &mut Activations) {
        let width = self.scale.len();
        assert!(rows.len().is_multiple_of(width), "{} values are no rows of {width}", rows.len());
        to.reshape(rows.len() / width, width);
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            match to.tier().kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the tier proves that the CPU has AVX-512, and bf16 conversion where its layout is blocks.
                Kind::AmxBf16 => unsafe { avx512::apply_to_blocks(self, row, index, to) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Kind::Avx512 => unsafe { avx512::apply_to_rows(self, row, index, to) },
                _ => {
                    self.apply_row(row);
                    to.write_row(index, row);
                }
            }
        }
    }

    fn apply_row(&self, row: &mut [f32]) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / count;
        let factor = 1.0 / (variance + self.epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
            *value = (*value - mean) * factor * scale + shift;
        }
    }
}

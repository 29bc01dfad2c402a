//! Layer norm over rows of f32.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::activations::Activations;
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
        let width = self.shape(rows, to);
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            match to.tier().kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the tier proves that the CPU has AVX-512, and bf16 conversion where its layout is blocks.
                Kind::AmxBf16 => unsafe { avx512::apply_to_blocks(self, row, index, to) },
                kind => {
                    self.apply_row(kind, row);
                    to.write_row(index, row);
                }
            }
        }
    }

    /// Puts the normalised `rows` `(rows, width)` into `to` for the next product, and leaves them as they are.
    ///
    /// # Panics
    /// If `rows` are no whole number of rows.
    pub fn copy(&self, rows: &[f32], to: &mut Activations) {
        let width = self.shape(rows, to);
        let kind = to.tier().kind();
        for (index, row) in rows.chunks_exact(width).enumerate() {
            match kind {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Kind::AmxBf16 => unsafe { avx512::copy_to_blocks(self, row, index, to) },
                _ => {
                    to.write_row(index, row);
                    self.apply_row(kind, to.row_mut(index));
                }
            }
        }
    }

    /// Gives `to` the shape of `rows`; says how wide they are.
    fn shape(&self, rows: &[f32], to: &mut Activations) -> usize {
        let width = self.scale.len();
        assert!(rows.len().is_multiple_of(width), "{} values are no rows of {width}", rows.len());
        to.reshape(rows.len() / width, width);
        width
    }

    fn apply_row(&self, kind: Kind, row: &mut [f32]) {
        match kind {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kind comes out of a tier, which proves that the CPU has AVX-512.
            Kind::Avx512 => unsafe { avx512::apply(self, row) },
            _ => portable::apply(self, row),
        }
    }
}

//! Layer-norm, cut, unit norm: from the stored vector to the one a caller asked for.
//!
//! The order is that of the Matryoshka model cards (nomic-ai/nomic-embed-text-v1.5: layer-norm over the full width, then
//! the cut, then unit norm). A model that was not trained with the layer-norm is cut without it.

/// Whether the caller wants vectors of length one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Scale to unit norm.
    Unit,
    /// Leave the length as the model gave it.
    Raw,
}

/// Which widths a caller may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widths {
    /// Those the model was trained to be cut to.
    Trained,
    /// Any up to the model's own; how much is lost at one it was not trained for is the caller's to know.
    Any,
}

/// What a model says of its widths.
#[derive(Debug, Clone, Copy)]
pub struct ModelWidths<'a> {
    /// Numbers in a pooled vector.
    pub full: u32,
    /// Widths it was trained to be cut to.
    pub trained: &'a [u32],
    /// Whether a layer-norm goes before a cut.
    pub layer_norm_before_cut: bool,
}

/// Why a width cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// Zero dimensions were asked for.
    #[error("`dimensions` is 0, the least is 1")]
    Zero,
    /// More dimensions than the model has.
    #[error("`dimensions` is {asked}, the model has {width}")]
    TooLarge {
        /// What was asked for.
        asked: u32,
        /// What the model has.
        width: u32,
    },
    /// A width the model was not trained to be cut to.
    #[error("`dimensions` is {asked}, the model was trained for {}", list(trained))]
    NotTrained {
        /// What was asked for.
        asked: u32,
        /// What can be asked for.
        trained: Vec<u32>,
    },
}

fn list(widths: &[u32]) -> String {
    widths.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// How to finish vectors for one request: made once, applied to each of its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Finish {
    dimensions: usize,
    layer_norm: bool,
    normalization: Normalization,
}

impl Finish {
    /// Checks the asked width against the model's. `None` means the full width.
    ///
    /// # Errors
    /// [`FinishError`] if the model has no such width, or was not trained for it and `widths` does not allow that.
    pub fn new(
        dimensions: Option<u32>,
        model: ModelWidths<'_>,
        widths: Widths,
        normalization: Normalization,
    ) -> Result<Self, FinishError> {
        let ModelWidths { full, trained, layer_norm_before_cut } = model;
        let asked = dimensions.unwrap_or(full);
        if asked == 0 {
            return Err(FinishError::Zero);
        }
        if asked > full {
            return Err(FinishError::TooLarge { asked, width: full });
        }
        if widths == Widths::Trained && asked != full && !trained.contains(&asked) {
            return Err(FinishError::NotTrained { asked, trained: trained.to_vec() });
        }
        Ok(Self {
            dimensions: asked as usize,
            layer_norm: layer_norm_before_cut && asked < full,
            normalization,
        })
    }

    /// Numbers in each finished vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Finishes one pooled vector (width) into (dimensions).
    ///
    /// A vector of zeros has no direction and stays as it is.
    pub fn apply(&self, pooled: &[f32]) -> Vec<f32> {
        assert!(
            self.dimensions <= pooled.len(),
            "a vector of {} cannot give {}",
            pooled.len(),
            self.dimensions
        );
        let mut vector = if self.layer_norm { layer_norm(pooled) } else { pooled.to_vec() };
        vector.truncate(self.dimensions);
        if self.normalization == Normalization::Unit {
            to_unit_norm(&mut vector);
        }
        vector
    }
}

/// Layer-norm without parameters over the whole vector, sums in f64; epsilon 1e-5 as in `torch.nn.functional.layer_norm`.
fn layer_norm(pooled: &[f32]) -> Vec<f32> {
    const EPSILON: f64 = 1e-5;
    let count = pooled.len() as f64;
    let mean = pooled.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = pooled.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let scale = (variance + EPSILON).sqrt().recip();
    pooled.iter().map(|value| narrow((f64::from(*value) - mean) * scale)).collect()
}

fn to_unit_norm(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if squares > 0.0 {
        let scale = squares.sqrt().recip();
        vector.iter_mut().for_each(|value| *value = narrow(f64::from(*value) * scale));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the stored type is what this does")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODEL: ModelWidths<'_> = ModelWidths { full: 8, trained: &[8, 4], layer_norm_before_cut: true };

    fn finish(dimensions: Option<u32>) -> Result<Finish, FinishError> {
        Finish::new(dimensions, MODEL, Widths::Trained, Normalization::Unit)
    }

    #[test]
    fn widths_outside_the_model_are_refused_by_name() {
        assert_eq!(finish(Some(0)), Err(FinishError::Zero));
        assert_eq!(finish(Some(9)).unwrap_err().to_string(), "`dimensions` is 9, the model has 8");
        assert_eq!(
            finish(Some(3)).unwrap_err().to_string(),
            "`dimensions` is 3, the model was trained for 8, 4"
        );
    }

    #[test]
    fn width_that_was_not_trained_can_be_had_where_any_is_allowed_but_none_above_the_models() {
        let any = |dimensions| Finish::new(Some(dimensions), MODEL, Widths::Any, Normalization::Unit);
        assert_eq!(any(3).unwrap().apply(&[1.0; 8]).len(), 3);
        assert_eq!(any(0), Err(FinishError::Zero));
        assert_eq!(any(9), Err(FinishError::TooLarge { asked: 9, width: 8 }));
    }

    #[test]
    fn layer_norm_is_over_the_full_width_and_unit_norm_over_what_is_left() {
        // Mean 0, variance 25: the layer-norm divides by 5 (epsilon is 1e-5), the cut leaves [1, -1, 1, -1].
        let pooled = [5.0, -5.0, 5.0, -5.0, 5.0, -5.0, 5.0, -5.0];
        let raw = Finish::new(Some(4), MODEL, Widths::Trained, Normalization::Raw).unwrap().apply(&pooled);
        assert!(raw.iter().zip([1.0, -1.0, 1.0, -1.0]).all(|(found, wanted)| (found - wanted).abs() < 1e-6));
        assert_eq!(finish(Some(4)).unwrap().apply(&pooled), [0.5, -0.5, 0.5, -0.5]);
        // A mean that is not 0 goes away before the cut, which a unit norm alone would not do.
        let shifted = pooled.map(|value| value + 7.0);
        let moved = finish(Some(4)).unwrap().apply(&shifted);
        assert!(
            moved.iter().zip([0.5, -0.5, 0.5, -0.5]).all(|(found, wanted)| (found - wanted).abs() < 1e-6)
        );
    }

    #[test]
    fn full_width_is_not_layer_normed() {
        let vector = finish(None).unwrap().apply(&[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(vector[..2], [0.6, 0.8]);
    }

    #[test]
    fn raw_full_width_is_the_stored_vector_bit_for_bit() {
        let pooled = [0.1_f32, -2.5, 3e-20, 7.0, 1.0, 2.0, 3.0, 4.0];
        let plain = ModelWidths { trained: &[8], layer_norm_before_cut: false, ..MODEL };
        let raw = Finish::new(None, plain, Widths::Trained, Normalization::Raw).unwrap();
        assert_eq!(raw.apply(&pooled), pooled);
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(finish(None).unwrap().apply(&[0.0; 8]), [0.0; 8]);
    }

    proptest! {
        #[test]
        fn every_cut_has_unit_norm(pooled in proptest::collection::vec(-100.0_f32..100.0, 8), cut in prop_oneof![Just(4_u32), Just(8)]) {
            let vector = finish(Some(cut)).unwrap().apply(&pooled);
            let norm: f32 = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            prop_assert_eq!(vector.len(), cut as usize);
            prop_assert!((norm - 1.0).abs() < 1e-5 || pooled.iter().all(|value| *value == pooled[0]));
        }
    }
}

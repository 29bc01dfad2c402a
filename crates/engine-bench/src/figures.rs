//! From what was measured to the figures that are shown.

use serde::Serialize;

/// The middle of some measurements and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Half of the measurements are lower.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of `values`, none of none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: quantile(values, 0.5)?,
            min: quantile(values, 0.0)?,
            max: quantile(values, 1.0)?,
        })
    }
}

/// The value that the part `share` of `values` does not exceed; between two values where none is exactly there.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().checked_sub(1)? as f64;
    let below = sorted.get(floor(place))?;
    let above = sorted.get(floor(place) + 1).unwrap_or(below);
    Some(below + (above - below) * place.fract())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index: small and not negative"
)]
fn floor(place: f64) -> usize {
    place as usize
}

/// How near the vectors of a contestant are to the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Agreement {
    /// The mean cosine of all texts.
    pub(crate) cosine_mean: f64,
    /// The lowest.
    pub(crate) cosine_min: f64,
}

impl Agreement {
    /// Compares text by text; none where the counts or the widths differ.
    pub(crate) fn of(reference: &[Vec<f32>], vectors: &[Vec<f32>]) -> Option<Self> {
        let same_shape = reference.len() == vectors.len()
            && reference.iter().zip(vectors).all(|(left, right)| left.len() == right.len());
        if reference.is_empty() || !same_shape {
            return None;
        }
        let cosines: Vec<f64> =
            reference.iter().zip(vectors).map(|(left, right)| cosine(left, right)).collect();
        Some(Self {
            cosine_mean: cosines.iter().sum::<f64>() / cosines.len() as f64,
            cosine_min: cosines.iter().copied().fold(f64::INFINITY, f64::min),
        })
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn agreement_tells_the_mean_and_the_worst_text() {
        let reference = [vec![1.0, 0.0], vec![0.0, 2.0]];
        let turned = [vec![3.0, 0.0], vec![1.0, 0.0]];
        let agreement = Agreement::of(&reference, &turned);
        assert_eq!(agreement, Some(Agreement { cosine_mean: 0.5, cosine_min: 0.0 }));
        assert_eq!(Agreement::of(&reference, &turned[..1]), None);
    }

    proptest! {
        #[test]
        fn quantile_lies_within_the_values_and_rises(values in prop::collection::vec(-1e6..1e6, 1..50)) {
            let quantiles: Vec<f64> =
                [0.0, 0.1, 0.5, 0.99, 1.0].iter().filter_map(|share| quantile(&values, *share)).collect();
            prop_assert_eq!(quantiles.len(), 5);
            prop_assert!(quantiles.is_sorted());
            prop_assert!(values.contains(&quantiles[0]) && values.contains(&quantiles[4]));
        }
    }
}

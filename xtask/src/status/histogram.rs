//! A quantile out of the buckets of a histogram, as Prometheus reads it.

/// Counts of observations up to each bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// Upper bound, and how many observations lie at or below it; rising, the last bound is infinite.
    buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// A histogram of cumulative `buckets`; none unless they rise and end at infinity.
    pub(super) fn new(buckets: Vec<(f64, f64)>) -> Option<Self> {
        let rises = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let ends = buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
        (rises && ends).then_some(Self { buckets })
    }

    /// How many observations it holds.
    fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// The value that the share `quantile` of all observations does not exceed, interpolated inside its bucket; the
    /// highest finite bound where it lies beyond that. None where nothing was observed.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count();
        let at = self.buckets.iter().position(|(_, upto)| *upto > 0.0 && *upto >= rank)?;
        let (below_bound, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| self.buckets[before]);
        let (bound, upto) = self.buckets[at];
        let share = (rank - below) / (upto - below);
        Some(if bound.is_finite() { below_bound + (bound - below_bound) * share } else { below_bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: [f64; 4]) -> Histogram {
        let bounds = [0.1, 0.2, 0.4, f64::INFINITY];
        Histogram::new(bounds.into_iter().zip(counts).collect()).unwrap()
    }

    fn assert_close(value: Option<f64>, expected: f64) {
        assert!((value.unwrap() - expected).abs() < 1e-12, "{value:?} is not {expected}");
    }

    #[test]
    fn quantile_is_interpolated_inside_its_bucket() {
        // 80 up to 0.1, 10 up to 0.2, 10 up to 0.4: rank 95 is the middle of the last.
        let observed = histogram([80.0, 90.0, 100.0, 100.0]);
        assert_close(observed.quantile(0.95), 0.3);
        assert_close(observed.quantile(0.4), 0.05);
        assert_close(observed.quantile(0.9), 0.2);
        assert_close(observed.quantile(1.0), 0.4);
    }

    #[test]
    fn empty_buckets_before_the_quantile_are_skipped() {
        assert_close(histogram([0.0, 0.0, 10.0, 10.0]).quantile(0.5), 0.3);
        assert_close(histogram([0.0, 0.0, 10.0, 10.0]).quantile(0.0), 0.2);
    }

    #[test]
    fn quantile_beyond_the_last_bound_is_that_bound() {
        assert_close(histogram([1.0, 1.0, 1.0, 100.0]).quantile(0.95), 0.4);
    }

    #[test]
    fn nothing_observed_has_no_quantile() {
        assert_eq!(histogram([0.0; 4]).quantile(0.95), None);
    }

    #[test]
    fn buckets_that_fall_or_never_end_are_no_histogram() {
        assert_eq!(Histogram::new(vec![(0.1, 2.0), (f64::INFINITY, 1.0)]), None);
        assert_eq!(Histogram::new(vec![(0.2, 1.0), (0.1, 1.0), (f64::INFINITY, 1.0)]), None);
        assert_eq!(Histogram::new(vec![(0.1, 1.0)]), None);
        assert_eq!(Histogram::new(Vec::new()), None);
    }
}

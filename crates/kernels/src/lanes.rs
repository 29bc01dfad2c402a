//! Partial results kept side by side, so that the compiler may make them a vector.

/// How many there are.
pub(crate) const LANES: usize = 16;

/// One result of all, by halves: a chain of sixteen would take as long as the sums of a short row.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES], both: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = both(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_counts_once() {
        let lanes: [f32; LANES] = std::array::from_fn(|lane| lane as f32);
        assert_eq!(fold(lanes, |a, b| a + b), 120.0);
        assert_eq!(fold(lanes, f32::max), 15.0);
    }
}

//! The measures, on two vectors or on one vector against all.

/// Neighbours of a text that are looked at, and the depth of nDCG and MRR.
pub(crate) const NEIGHBOURS: usize = 10;

/// Lanes that sums are kept in, so that the compiler adds several products at once.
const LANES: usize = 8;

/// Sum of products, in f64.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    let (left_lanes, left_rest) = left.as_chunks::<LANES>();
    let (right_lanes, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..LANES {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    let rest = left_rest.iter().zip(right_rest).map(|(left, right)| f64::from(*left) * f64::from(*right));
    sums.into_iter().sum::<f64>() + rest.sum::<f64>()
}

/// Cosine of the angle between two vectors. Without a direction it is 1 for two zeros and 0 for one.
pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let (left_squares, right_squares) = (dot(left, left), dot(right, right));
    if left_squares == 0.0 || right_squares == 0.0 {
        return if left_squares == right_squares { 1.0 } else { 0.0 };
    }
    (dot(left, right) / (left_squares * right_squares).sqrt()).clamp(-1.0, 1.0)
}

/// The nearest [`NEIGHBOURS`] of `rows[own]`, itself left out, in the order of the rows. Among equally near ones the first of the rows wins.
pub(crate) fn neighbours(rows: &[Vec<f32>], own: usize) -> Vec<usize> {
    let others = (0..rows.len()).filter(|other| *other != own);
    let mut scored: Vec<(f64, usize)> = others.map(|other| (dot(&rows[own], &rows[other]), other)).collect();
    let nearest_first =
        |left: &(f64, usize), right: &(f64, usize)| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1));
    if scored.len() > NEIGHBOURS {
        scored.select_nth_unstable_by(NEIGHBOURS - 1, nearest_first);
        scored.truncate(NEIGHBOURS);
    }
    let mut nearest: Vec<usize> = scored.into_iter().map(|(_, other)| other).collect();
    nearest.sort_unstable();
    nearest
}

/// Part of two lists of neighbours, each in ascending order, that both have.
pub(crate) fn overlap(left: &[usize], right: &[usize]) -> f64 {
    let both = left.iter().filter(|index| right.binary_search(index).is_ok()).count();
    both as f64 / left.len().max(right.len()).max(1) as f64
}

/// Place of `rows[answer]` among all rows by nearness to `query`, from 1. A row as near as the answer counts as nearer: an
/// order that rests on luck is none.
pub(crate) fn rank(query: &[f32], rows: &[Vec<f32>], answer: usize) -> usize {
    let found = dot(query, &rows[answer]);
    rows.iter().filter(|row| dot(query, row) >= found).count()
}

/// nDCG@10 of a query with one right answer at `rank`: 1 / log2(1 + rank), 0 beyond the depth.
pub(crate) fn ndcg(rank: usize) -> f64 {
    if rank <= NEIGHBOURS { (1.0 + rank as f64).log2().recip() } else { 0.0 }
}

/// Reciprocal of `rank`, 0 beyond the depth.
pub(crate) fn reciprocal_rank(rank: usize) -> f64 {
    if rank <= NEIGHBOURS { (rank as f64).recip() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    /// Unit vectors in the plane at these angles, degrees.
    fn at(degrees: &[f64]) -> Vec<Vec<f32>> {
        #[expect(clippy::cast_possible_truncation, reason = "the rows are float32")]
        let row = |degrees: &f64| vec![degrees.to_radians().cos() as f32, degrees.to_radians().sin() as f32];
        degrees.iter().map(row).collect()
    }

    #[test]
    fn dot_sums_whole_lanes_and_the_rest() {
        let ones = vec![1.0; 19];
        let counted: Vec<f32> = (1_u8..=19).map(f32::from).collect();
        is(dot(&ones, &counted), 190.0);
        is(dot(&ones[..3], &counted[..3]), 6.0);
    }

    #[test]
    fn cosine_does_not_depend_on_length_and_knows_zeros() {
        is(cosine(&[3.0, 4.0], &[30.0, 40.0]), 1.0);
        is(cosine(&[3.0, 4.0], &[4.0, 3.0]), 24.0 / 25.0);
        is(cosine(&[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        is(cosine(&[0.0, 0.0], &[0.0, 0.0]), 1.0);
        is(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn neighbours_are_the_nearest_ten_without_the_text_itself() {
        let degrees: Vec<f64> = (0_u8..15).map(|index| f64::from(index) * 5.0).collect();
        assert_eq!(neighbours(&at(&degrees), 0), (1..=10).collect::<Vec<_>>());
        assert_eq!(neighbours(&at(&degrees), 14), (4..=13).collect::<Vec<_>>());
        assert_eq!(neighbours(&at(&degrees[..4]), 1), [0, 2, 3]);
    }

    #[test]
    fn first_of_equally_near_neighbours_wins() {
        let mut rows = at(&[0.0]);
        rows.extend(vec![vec![0.5, 0.5]; 12]);
        assert_eq!(neighbours(&rows, 0), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn overlap_is_the_part_that_both_have() {
        is(overlap(&[1, 2, 3, 4], &[2, 4, 6, 8]), 0.5);
        is(overlap(&[1, 2], &[1, 2]), 1.0);
        is(overlap(&[1], &[2]), 0.0);
    }

    #[test]
    fn rank_counts_what_is_nearer_or_as_near() {
        let rows = at(&[40.0, 10.0, 20.0, 90.0]);
        let query = &at(&[0.0])[0];
        assert_eq!([0, 1, 2, 3].map(|answer| rank(query, &rows, answer)), [3, 1, 2, 4]);
        let equal = vec![vec![1.0, 0.0]; 3];
        assert_eq!(rank(query, &equal, 1), 3, "two others are as near");
    }

    #[test]
    fn ndcg_and_reciprocal_rank_are_those_computed_by_hand() {
        is(ndcg(1), 1.0);
        is(ndcg(3), 0.5);
        is(ndcg(7), 1.0 / 3.0);
        is(ndcg(10), 0.289_064_826_317_887_8);
        is(ndcg(11), 0.0);
        is(reciprocal_rank(1), 1.0);
        is(reciprocal_rank(4), 0.25);
        is(reciprocal_rank(11), 0.0);
    }
}

//! Two sets of vectors of the same texts, compared at one width.

use rayon::prelude::*;
use serde::Serialize;

use crate::{
    measure::{cosine, ndcg, neighbours, overlap, rank, reciprocal_rank},
    pairs::Pairs,
    progress::Progress,
};

/// Vectors of all texts of [`Pairs`] at one width, of unit norm: (texts, width) and (queries, width).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors<'v> {
    texts: &'v [Vec<f32>],
    queries: &'v [Vec<f32>],
}

/// What one width came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Numbers of a vector.
    pub(crate) width: u32,
    /// Cosine of the two vectors of a text or query, on average.
    pub(crate) cosine_mean: f64,
    /// The same of the one that changed most.
    pub(crate) cosine_min: f64,
    /// Part of a text's ten nearest neighbours that are the reference's at this width.
    pub(crate) neighbours_kept: f64,
    /// Part of them that are the reference's at full width.
    pub(crate) neighbours_kept_of_full: f64,
    /// The reference on the task.
    pub(crate) reference: Retrieval,
    /// The candidate on the task.
    pub(crate) candidate: Retrieval,
    /// nDCG@10 that the candidate loses; below zero where it gains.
    pub(crate) ndcg_loss: f64,
    /// Standard error of that loss over the queries.
    pub(crate) ndcg_loss_error: f64,
}

/// How well texts are found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Retrieval {
    /// nDCG@10, on average.
    pub(crate) ndcg: f64,
    /// MRR@10.
    pub(crate) mrr: f64,
}

impl Retrieval {
    fn of(ranks: &[usize]) -> Self {
        let ranks = ranks.iter().copied();
        Self { ndcg: mean(ranks.clone().map(ndcg)), mrr: mean(ranks.map(reciprocal_rank)) }
    }
}

impl<'v> Vectors<'v> {
    /// Of rows that hold the texts first and then the queries.
    pub(crate) fn new(rows: &'v [Vec<f32>], texts: usize) -> Self {
        let (texts, queries) = rows.split_at(texts.min(rows.len()));
        Self { texts, queries }
    }

    /// For each text its nearest neighbours.
    pub(crate) fn neighbours(&self, progress: &Progress) -> Vec<Vec<usize>> {
        let count = self.texts.len();
        let of_one = |own| {
            progress.add(1);
            neighbours(self.texts, own)
        };
        (0..count).into_par_iter().map(of_one).collect()
    }

    /// For each query the place of its text.
    fn ranks(&self, pairs: &Pairs, progress: &Progress) -> Vec<usize> {
        let of_one = |(query, answer): (&Vec<f32>, &usize)| {
            progress.add(1);
            rank(query, self.texts, *answer)
        };
        self.queries.par_iter().zip(&pairs.answers).map(of_one).collect()
    }

    fn all(&self) -> impl Iterator<Item = &'v Vec<f32>> {
        self.texts.iter().chain(self.queries)
    }
}

/// Compares at `width`. `full` holds the neighbours that the reference finds at full width.
pub(crate) fn compare(
    width: u32,
    reference: Vectors<'_>,
    candidate: Vectors<'_>,
    full: &[Vec<usize>],
    pairs: &Pairs,
    progress: &Progress,
) -> Row {
    let cosines: Vec<f64> =
        reference.all().zip(candidate.all()).map(|(left, right)| cosine(left, right)).collect();
    let found = candidate.neighbours(progress);
    let ranks = [reference, candidate].map(|vectors| vectors.ranks(pairs, progress));
    let losses = ranks[0].iter().zip(&ranks[1]).map(|(left, right)| ndcg(*left) - ndcg(*right));
    let losses: Vec<f64> = losses.collect();
    let kept = |of: &[Vec<usize>]| mean(of.iter().zip(&found).map(|(left, right)| overlap(left, right)));
    Row {
        width,
        cosine_mean: mean(cosines.iter().copied()),
        cosine_min: cosines.iter().copied().fold(1.0, f64::min),
        neighbours_kept: kept(&reference.neighbours(progress)),
        neighbours_kept_of_full: kept(full),
        reference: Retrieval::of(&ranks[0]),
        candidate: Retrieval::of(&ranks[1]),
        ndcg_loss: mean(losses.iter().copied()),
        ndcg_loss_error: standard_error(&losses),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// Of the mean of independent values: their deviation by the root of their number. None is known of one value: 0.
fn standard_error(values: &[f64]) -> f64 {
    let mean_of_all = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|value| (value - mean_of_all).powi(2)).sum();
    let count = values.len() as f64;
    (squares / (count - 1.0).max(1.0) / count.max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: usize = 13;

    /// Texts on the axes of a space, and a query for each: the text itself, or the next one's where `index` is in `wrong`.
    fn rows(wrong: &[usize]) -> Vec<Vec<f32>> {
        let axis = |index: usize| (0..TEXTS).map(|other| if other == index { 1.0 } else { 0.0 }).collect();
        let queries =
            (0..TEXTS).map(|index| if wrong.contains(&index) { (index + 1) % TEXTS } else { index });
        (0..TEXTS).chain(queries).map(axis).collect()
    }

    fn pairs() -> Pairs {
        let all = |letter: &str| (0..TEXTS).map(|index| format!("{letter}{index}")).collect();
        Pairs { queries: all("q"), texts: all("t"), answers: (0..TEXTS).collect() }
    }

    fn row(reference: &[Vec<f32>], candidate: &[Vec<f32>]) -> Row {
        let (reference, candidate) = (Vectors::new(reference, TEXTS), Vectors::new(candidate, TEXTS));
        let progress = Progress::wait("test");
        let full = reference.neighbours(&progress);
        compare(13, reference, candidate, &full, &pairs(), &progress)
    }

    #[test]
    fn nothing_is_lost_against_oneself() {
        let row = row(&rows(&[]), &rows(&[]));
        let found = [row.cosine_mean, row.cosine_min, row.neighbours_kept, row.neighbours_kept_of_full];
        assert_eq!(found, [1.0; 4]);
        assert_eq!((row.reference.ndcg, row.candidate.mrr, row.ndcg_loss), (1.0, 1.0, 0.0));
    }

    #[test]
    fn wrong_query_costs_its_part() {
        // Its own text is as far away as every other but one, and ties count against it: rank 13, nothing.
        let row = row(&rows(&[]), &rows(&[3]));
        assert!((row.ndcg_loss - 1.0 / 13.0).abs() < 1e-12, "{row:?}");
        assert!((row.candidate.mrr - 12.0 / 13.0).abs() < 1e-12, "{row:?}");
        assert_eq!((row.cosine_min, row.neighbours_kept), (0.0, 1.0));
        // A loss of 1 and twelve of 0: squares sum to 12/13, over 12 degrees of freedom and 13 values.
        assert!((row.ndcg_loss_error - 1.0 / 13.0).abs() < 1e-12, "{row:?}");
        assert!((row.cosine_mean - 25.0 / 26.0).abs() < 1e-12, "{row:?}");
    }
}

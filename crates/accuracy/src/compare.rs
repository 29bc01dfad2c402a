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
}

/// How well texts are found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Retrieval {
    /// nDCG@10, on average.
    pub(crate) ndcg: f64,
    /// MRR@10.
    pub(crate) mrr: f64,
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

    fn retrieval(&self, pairs: &Pairs, progress: &Progress) -> Retrieval {
        let of_one = |(query, answer): (&Vec<f32>, &usize)| {
            progress.add(1);
            let rank = rank(query, self.texts, *answer);
            (ndcg(rank), reciprocal_rank(rank))
        };
        let found: Vec<_> = self.queries.par_iter().zip(&pairs.answers).map(of_one).collect();
        Retrieval {
            ndcg: mean(found.iter().map(|(ndcg, _)| *ndcg)),
            mrr: mean(found.iter().map(|(_, reciprocal)| *reciprocal)),
        }
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
    let [left, right] = [reference, candidate].map(|vectors| vectors.retrieval(pairs, progress));
    let kept = |of: &[Vec<usize>]| mean(of.iter().zip(&found).map(|(left, right)| overlap(left, right)));
    Row {
        width,
        cosine_mean: mean(cosines.iter().copied()),
        cosine_min: cosines.iter().copied().fold(1.0, f64::min),
        neighbours_kept: kept(&reference.neighbours(progress)),
        neighbours_kept_of_full: kept(full),
        reference: left,
        candidate: right,
        ndcg_loss: left.ndcg - right.ndcg,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
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
        assert!((row.cosine_mean - 25.0 / 26.0).abs() < 1e-12, "{row:?}");
    }
}

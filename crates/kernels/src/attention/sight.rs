//! Which keys a query sees, and what is added to its scores.

use std::ops::Range;

use super::{Heads, Part};
use crate::activations::BLOCK;

/// What is added to the score of a query and a key, by head and by how far the key is behind or ahead of the query.
#[derive(Debug, Clone)]
pub struct RelativeBias {
    heads: usize,
    tokens_max: usize,
    /// `(heads, 2 · tokens_max - 1)`, each divided by the scale of scores: softmax multiplies by it again.
    values: Vec<f32>,
}

impl RelativeBias {
    /// For texts of up to `tokens_max` tokens. `of(head, distance)` is what is added to a score that was multiplied by
    /// `scale`, `distance` being the place of the key minus that of the query.
    ///
    /// # Panics
    /// If `tokens_max` is 0.
    #[must_use]
    pub fn new(heads: usize, tokens_max: usize, scale: f32, of: impl Fn(usize, isize) -> f32) -> Self {
        assert!(tokens_max > 0, "a text has a token");
        let farthest = tokens_max.cast_signed() - 1;
        let places = (0..heads).flat_map(|head| (-farthest..=farthest).map(move |distance| (head, distance)));
        Self {
            heads,
            tokens_max,
            values: places.map(|(head, distance)| of(head, distance) / scale).collect(),
        }
    }

    /// Longest text it is for.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    pub(super) fn assert_room(&self, tokens: usize, heads: usize) {
        assert!(tokens <= self.tokens_max, "text of {tokens} tokens, bias is for {}", self.tokens_max);
        assert!(heads == self.heads, "{heads} heads, bias is for {}", self.heads);
    }

    /// What is added to the scores of `query` and the keys from `key` on.
    fn row(&self, head: usize, query: usize, key: usize) -> &[f32] {
        let head = &self.values[head * (2 * self.tokens_max - 1)..][..2 * self.tokens_max - 1];
        &head[self.tokens_max - 1 + key - query..]
    }
}

/// What a block of queries of one text and head sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    heads: Heads<'a>,
    head: usize,
    /// First query of the block.
    query: usize,
    /// First key in sight, a multiple of 32, and the end of those in sight.
    first: usize,
    end: usize,
}

impl<'a> Sight<'a> {
    pub(super) fn new(part: Part<'a>, query: usize, rows: usize) -> Self {
        let (first, end) = match part.heads.window {
            None => (0, part.tokens),
            Some(window) => {
                let first = query.saturating_sub(window) / BLOCK * BLOCK;
                (first, (query + rows).saturating_add(window).min(part.tokens))
            }
        };
        Self { heads: part.heads, head: part.head, query, first, end }
    }

    /// The blocks of 32 keys in sight.
    pub(super) fn blocks(self) -> Range<usize> {
        self.first / BLOCK..self.end.div_ceil(BLOCK)
    }

    /// How many keys there are in sight, from the first of the first block on.
    pub(super) fn keys(self) -> usize {
        self.end - self.first
    }

    /// Brings the scores of a query of the block into their final form, before they are scaled.
    #[inline(always)]
    pub(super) fn limit(self, row: usize, scores: &mut [f32]) {
        let query = self.query + row;
        if let Some(bias) = self.heads.bias {
            let bias = bias.row(self.head, query, self.first);
            scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        }
        if let Some(window) = self.heads.window {
            let seen = query.saturating_sub(window)..query.saturating_add(window).saturating_add(1);
            let before = seen.start.saturating_sub(self.first).min(scores.len());
            let after = seen.end.saturating_sub(self.first).min(scores.len());
            scores[..before].fill(f32::NEG_INFINITY);
            scores[after..].fill(f32::NEG_INFINITY);
        }
    }
}

//! From a hidden state per token to one vector per text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::batch::RaggedBatch;

/// How the vector of a text is made from the hidden states of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean over all tokens of the text, special tokens included.
    Mean,
    /// The first token, which is `[CLS]`.
    Cls,
    /// The largest value of each dimension over all tokens.
    Max,
    /// The last token.
    LastToken,
    /// The sum over all tokens, divided by the square root of their number.
    MeanSqrtLen,
}

impl Pooling {
    /// Every pooling.
    pub const ALL: [Self; 5] = [Self::Mean, Self::Cls, Self::Max, Self::LastToken, Self::MeanSqrtLen];

    /// The name that sentence-transformers gives it in `pooling_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::LastToken => "lasttoken",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A pooling of another name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pooling {found:?} is not supported, supported: {}", Pooling::ALL.map(Pooling::name).join(", "))]
pub struct UnknownPooling {
    /// The name.
    pub found: String,
}

impl FromStr for Pooling {
    type Err = UnknownPooling;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|pooling| pooling.name() == name);
        known.ok_or_else(|| UnknownPooling { found: name.to_owned() })
    }
}

impl Pooling {
    /// Pools hidden states `(tokens, width)` over each text of `batch`; appends `(texts, width)` to `vectors`.
    pub(crate) fn pool(self, hidden: &[f32], batch: &RaggedBatch, width: usize, vectors: &mut Vec<f32>) {
        for range in batch.ranges() {
            let tokens = &hidden[range.start * width..range.end * width];
            match self {
                Self::Cls => vectors.extend_from_slice(&tokens[..width]),
                Self::LastToken => vectors.extend_from_slice(&tokens[tokens.len() - width..]),
                Self::Max => {
                    append_folded(tokens, width, vectors, larger);
                }
                Self::Mean => divide(append_sum(tokens, width, vectors), count(tokens, width)),
                Self::MeanSqrtLen => {
                    divide(append_sum(tokens, width, vectors), count(tokens, width).sqrt());
                }
            }
        }
    }
}

fn append_sum<'a>(tokens: &[f32], width: usize, vectors: &'a mut Vec<f32>) -> &'a mut [f32] {
    append_folded(tokens, width, vectors, |sum, value| sum + value)
}

/// Appends the first token with all further ones folded into it: `(width)`.
fn append_folded<'a>(
    tokens: &[f32],
    width: usize,
    vectors: &'a mut Vec<f32>,
    fold: impl Fn(f32, f32) -> f32,
) -> &'a mut [f32] {
    let start = vectors.len();
    vectors.extend_from_slice(&tokens[..width]);
    let folded = &mut vectors[start..];
    for token in tokens[width..].chunks_exact(width) {
        for (whole, value) in folded.iter_mut().zip(token) {
            *whole = fold(*whole, *value);
        }
    }
    folded
}

/// NaN wins, so that a damaged state is seen and not hidden behind a number.
fn larger(whole: f32, value: f32) -> f32 {
    if whole.is_nan() || whole > value { whole } else { value }
}

fn count(tokens: &[f32], width: usize) -> f32 {
    (tokens.len() / width) as f32
}

fn divide(vector: &mut [f32], by: f32) {
    for value in vector {
        *value /= by;
    }
}

/// One vector per text, `(texts, width)` row-major f32, in the order of the batch. Not brought to unit norm.
#[derive(Debug, Clone, PartialEq)]
pub struct PooledVectors {
    width: usize,
    values: Vec<f32>,
}

impl PooledVectors {
    /// Takes `values` of `(texts, width)`; `width` is not 0.
    pub(crate) fn new(width: usize, values: Vec<f32>) -> Self {
        debug_assert!(values.len().is_multiple_of(width));
        Self { width, values }
    }

    /// Values per vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of vectors, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a batch has at least one text")]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// The vectors `(width)` in text order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenIds;

    /// Texts of 2 and 1 tokens, width 2.
    fn pooled(pooling: Pooling) -> Vec<f32> {
        let texts = [TokenIds::new(vec![1, 2]).unwrap(), TokenIds::new(vec![3]).unwrap()];
        let batch = RaggedBatch::new(&texts).unwrap();
        let mut vectors = Vec::new();
        pooling.pool(&[1.0, 30.0, 3.0, 10.0, 5.0, 50.0], &batch, 2, &mut vectors);
        vectors
    }

    #[test]
    fn mean_stays_within_its_text() {
        assert_eq!(pooled(Pooling::Mean), [2.0, 20.0, 5.0, 50.0]);
    }

    #[test]
    fn cls_takes_the_first_token_of_each_text() {
        assert_eq!(pooled(Pooling::Cls), [1.0, 30.0, 5.0, 50.0]);
    }

    #[test]
    fn max_takes_the_largest_value_of_each_dimension() {
        assert_eq!(pooled(Pooling::Max), [3.0, 30.0, 5.0, 50.0]);
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
    }

    #[test]
    fn lasttoken_takes_the_last_token_of_each_text() {
        assert_eq!(pooled(Pooling::LastToken), [3.0, 10.0, 5.0, 50.0]);
    }

    #[test]
    fn mean_sqrt_len_divides_the_sum_by_the_root_of_the_number_of_tokens() {
        let root = 2.0_f32.sqrt();
        assert_eq!(pooled(Pooling::MeanSqrtLen), [4.0 / root, 40.0 / root, 5.0, 50.0]);
    }

    #[test]
    fn a_pooling_is_read_back_from_its_name() {
        for pooling in Pooling::ALL {
            assert_eq!(pooling.to_string().parse(), Ok(pooling));
        }
        let error = "weightedmean".parse::<Pooling>().unwrap_err().to_string();
        assert!(error.contains("\"weightedmean\"") && error.contains("mean, cls, max, lasttoken"), "{error}");
    }
}

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
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        })
    }
}

/// A pooling of another name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pooling {found:?} is not supported, supported: \"mean\", \"cls\"")]
pub struct UnknownPooling {
    /// The name.
    pub found: String,
}

impl FromStr for Pooling {
    type Err = UnknownPooling;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            _ => Err(UnknownPooling { found: name.to_owned() }),
        }
    }
}

impl Pooling {
    /// Pools hidden states `(tokens, width)` over each text of `batch`; appends `(texts, width)` to `vectors`.
    pub(crate) fn pool(self, hidden: &[f32], batch: &RaggedBatch, width: usize, vectors: &mut Vec<f32>) {
        for range in batch.ranges() {
            let tokens = &hidden[range.start * width..range.end * width];
            match self {
                Self::Cls => vectors.extend_from_slice(&tokens[..width]),
                Self::Mean => append_mean(tokens, width, vectors),
            }
        }
    }
}

fn append_mean(tokens: &[f32], width: usize, vectors: &mut Vec<f32>) {
    let start = vectors.len();
    vectors.extend_from_slice(&tokens[..width]);
    let mean = &mut vectors[start..];
    for token in tokens[width..].chunks_exact(width) {
        for (sum, value) in mean.iter_mut().zip(token) {
            *sum += value;
        }
    }
    let count = (tokens.len() / width) as f32;
    for sum in mean {
        *sum /= count;
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
        pooling.pool(&[1.0, 10.0, 3.0, 30.0, 5.0, 50.0], &batch, 2, &mut vectors);
        vectors
    }

    #[test]
    fn mean_stays_within_its_text() {
        assert_eq!(pooled(Pooling::Mean), [2.0, 20.0, 5.0, 50.0]);
    }

    #[test]
    fn cls_takes_the_first_token_of_each_text() {
        assert_eq!(pooled(Pooling::Cls), [1.0, 10.0, 5.0, 50.0]);
    }

    #[test]
    fn a_pooling_is_read_back_from_its_name() {
        for pooling in [Pooling::Mean, Pooling::Cls] {
            assert_eq!(pooling.to_string().parse(), Ok(pooling));
        }
        assert_eq!("max".parse::<Pooling>(), Err(UnknownPooling { found: "max".to_owned() }));
    }
}

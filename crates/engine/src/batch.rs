//! A ragged batch: the tokens of many texts packed one after the other, with the places where texts begin.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::error::BatchError;

/// The token ids of one text, special tokens included; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds(Vec<u32>);

impl TokenIds {
    /// Takes the ids of one text.
    ///
    /// # Errors
    /// [`BatchError::NoTokens`] if there are none.
    pub fn new(ids: Vec<u32>) -> Result<Self, BatchError> {
        if ids.is_empty() { Err(BatchError::NoTokens) } else { Ok(Self(ids)) }
    }

    /// The ids in text order.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// Number of tokens.
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one token")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Texts packed for one pass, without padding. `cumulative_lengths` starts at 0, has one entry more than there are
/// texts and rises strictly, so text `i` is `ids[cumulative_lengths[i]..cumulative_lengths[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaggedBatch {
    ids: Vec<u32>,
    cumulative_lengths: Vec<usize>,
}

impl RaggedBatch {
    /// Packs texts in the order given.
    ///
    /// # Errors
    /// [`BatchError::NoTexts`] if there are none.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a TokenIds>) -> Result<Self, BatchError> {
        let mut ids = Vec::new();
        let mut cumulative_lengths = vec![0];
        for text in texts {
            ids.extend_from_slice(text.as_slice());
            cumulative_lengths.push(ids.len());
        }
        if cumulative_lengths.len() == 1 {
            return Err(BatchError::NoTexts);
        }
        Ok(Self { ids, cumulative_lengths })
    }

    /// Number of texts, at least one.
    pub fn texts(&self) -> usize {
        self.cumulative_lengths.len() - 1
    }

    /// Number of tokens of all texts together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or_default()
    }

    /// The packed ids `(tokens)`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where each text lies in [`ids`](Self::ids), in text order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.cumulative_lengths.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The texts with these numbers, in this order, as a batch of their own; none if there are no numbers.
    ///
    /// # Panics
    /// If there is no such text.
    pub(crate) fn pick(&self, texts: &[usize]) -> Option<Self> {
        let mut picked = Self { ids: Vec::new(), cumulative_lengths: vec![0] };
        for &text in texts {
            let range = self.cumulative_lengths[text]..self.cumulative_lengths[text + 1];
            picked.ids.extend_from_slice(&self.ids[range]);
            picked.cumulative_lengths.push(picked.ids.len());
        }
        (!texts.is_empty()).then_some(picked)
    }

    /// Cuts the batch into at most `parts` batches of about the same number of tokens, each of at least one text, in
    /// order: the parts one after the other are the batch.
    pub fn split(&self, parts: NonZeroUsize) -> Vec<Self> {
        let mut first = 0;
        let mut split = Vec::with_capacity(parts.get().min(self.texts()));
        for part in 1..=parts.get() {
            let end = self.cut(part, parts.get());
            if end > first {
                split.push(self.slice(first..end));
                first = end;
            }
        }
        split
    }

    /// The number of texts whose tokens come nearest to `part / parts` of all tokens.
    fn cut(&self, part: usize, parts: usize) -> usize {
        // In u128 the product cannot overflow, whatever `parts` a caller asks for.
        let ideal = self.tokens() as u128 * part as u128 / parts as u128;
        let distance = |cut: usize| ideal.abs_diff(self.cumulative_lengths[cut] as u128);
        let above = self.cumulative_lengths.partition_point(|&tokens| (tokens as u128) < ideal);
        if above > 0 && distance(above - 1) <= distance(above) { above - 1 } else { above }
    }

    fn slice(&self, texts: Range<usize>) -> Self {
        let cumulative = &self.cumulative_lengths[texts.start..=texts.end];
        let (start, end) = (cumulative[0], cumulative[cumulative.len() - 1]);
        Self {
            ids: self.ids[start..end].to_vec(),
            cumulative_lengths: cumulative.iter().map(|tokens| tokens - start).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<TokenIds>> {
        let text = prop::collection::vec(0..30_522_u32, 1..80).prop_map(|ids| TokenIds::new(ids).unwrap());
        prop::collection::vec(text, 1..40)
    }

    #[test]
    fn a_text_without_tokens_is_refused() {
        assert_eq!(TokenIds::new(Vec::new()), Err(BatchError::NoTokens));
    }

    #[test]
    fn a_batch_without_texts_is_refused() {
        assert_eq!(RaggedBatch::new([]), Err(BatchError::NoTexts));
    }

    #[test]
    fn equal_texts_are_split_evenly() {
        let text = TokenIds::new(vec![7; 10]).unwrap();
        let batch = RaggedBatch::new(vec![&text; 8]).unwrap();
        let texts: Vec<_> =
            batch.split(NonZeroUsize::new(4).unwrap()).iter().map(RaggedBatch::texts).collect();
        assert_eq!(texts, [2, 2, 2, 2]);
    }

    proptest! {
        #[test]
        fn packing_keeps_every_text_in_place(texts in texts()) {
            let batch = RaggedBatch::new(&texts).unwrap();
            prop_assert_eq!(batch.texts(), texts.len());
            prop_assert_eq!(batch.tokens(), texts.iter().map(TokenIds::len).sum::<usize>());
            prop_assert_eq!(batch.longest(), texts.iter().map(TokenIds::len).max().unwrap());
            prop_assert_eq!(batch.cumulative_lengths[0], 0);
            prop_assert_eq!(batch.cumulative_lengths.len(), texts.len() + 1);
            prop_assert!(batch.cumulative_lengths.is_sorted_by(|a, b| a < b));
            for (range, text) in batch.ranges().zip(&texts) {
                prop_assert_eq!(&batch.ids()[range], text.as_slice());
            }
        }

        #[test]
        fn parts_put_together_are_the_batch(texts in texts(), parts in 1_usize..70) {
            let batch = RaggedBatch::new(&texts).unwrap();
            let split = batch.split(NonZeroUsize::new(parts).unwrap());
            prop_assert!(split.len() <= parts);
            prop_assert!(split.iter().all(|part| part.texts() > 0));
            let mut together = split.iter().flat_map(|part| part.ranges().map(|range| &part.ids()[range]));
            prop_assert!(texts.iter().all(|text| together.next() == Some(text.as_slice())));
            prop_assert_eq!(together.next(), None);
        }

        #[test]
        fn no_part_is_more_than_one_text_above_its_share(texts in texts(), parts in 1_usize..9) {
            let batch = RaggedBatch::new(&texts).unwrap();
            let bound = batch.tokens().div_ceil(parts) + batch.longest();
            let split = batch.split(NonZeroUsize::new(parts).unwrap());
            prop_assert!(split.iter().all(|part| part.tokens() <= bound));
        }
    }
}

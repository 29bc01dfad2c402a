//! Texts of similar lengths put together, because a graph takes rectangles.

use crate::batch::RaggedBatch;

/// A rectangle holds no more than this, padding included, unless it is one text alone.
const TOKENS_MAX: usize = 2048;
/// So many tokens of padding are cheaper than another call of the session.
const PADDING_FREE: usize = 32;
/// Beyond those, one token of padding for so many real ones.
const REAL_PER_PADDING: usize = 4;

/// Texts of one call of the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    /// Their numbers in the batch.
    pub(super) texts: Vec<usize>,
    /// Tokens of the longest of them.
    pub(super) length: usize,
}

/// Every text of `batch` in one rectangle, the shortest first.
pub(super) fn similar(batch: &RaggedBatch) -> Vec<Rectangle> {
    let lengths: Vec<usize> = batch.ranges().map(|range| range.len()).collect();
    let mut by_length: Vec<usize> = (0..lengths.len()).collect();
    by_length.sort_by_key(|text| lengths[*text]);
    let mut rectangles = Vec::new();
    let mut open = Rectangle { texts: Vec::new(), length: 0 };
    let mut real = 0;
    for text in by_length {
        let length = lengths[text];
        if !open.texts.is_empty() && !fits((open.texts.len() + 1) * length, real + length) {
            rectangles.push(std::mem::replace(&mut open, Rectangle { texts: Vec::new(), length: 0 }));
            real = 0;
        }
        open.texts.push(text);
        open.length = length;
        real += length;
    }
    rectangles.push(open);
    rectangles
}

fn fits(tokens: usize, real: usize) -> bool {
    tokens <= TOKENS_MAX && tokens - real <= PADDING_FREE + real / REAL_PER_PADDING
}

/// Every text of `batch` alone: no padding.
pub(super) fn alone(batch: &RaggedBatch) -> Vec<Rectangle> {
    batch
        .ranges()
        .enumerate()
        .map(|(text, range)| Rectangle { texts: vec![text], length: range.len() })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::TokenIds;

    fn batch(lengths: &[usize]) -> RaggedBatch {
        let texts: Vec<_> = lengths.iter().map(|length| TokenIds::new(vec![1; *length]).unwrap()).collect();
        RaggedBatch::new(&texts).unwrap()
    }

    #[test]
    fn a_long_text_does_not_pad_short_ones() {
        let found = similar(&batch(&[200, 5, 210, 6, 9000]));
        let found: Vec<_> = found.iter().map(|rectangle| (&rectangle.texts[..], rectangle.length)).collect();
        assert_eq!(found, [(&[1, 3][..], 6), (&[0, 2], 210), (&[4], 9000)]);
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_rectangle_and_padding_is_bounded(
            lengths in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..900], 1..60)
        ) {
            let mut seen = vec![0; lengths.len()];
            for Rectangle { texts, length } in similar(&batch(&lengths)) {
                let real: usize = texts.iter().map(|text| lengths[*text]).sum();
                prop_assert_eq!(texts.iter().map(|text| lengths[*text]).max(), Some(length));
                prop_assert!(texts.len() == 1 || fits(texts.len() * length, real));
                texts.iter().for_each(|text| seen[*text] += 1);
            }
            prop_assert!(seen.iter().all(|seen| *seen == 1));
        }
    }
}

//! How the threads of an engine divide a batch.
//!
//! ```text
//!  batch ─┬─ long texts ─▶ all threads share each kernel, one text after another
//!         └─ the others ─▶ parts of about as many tokens, each on one thread through the whole encoder
//! ```
//! Threads that share kernels meet after every one; threads with parts of their own meet at the end. A text longer than a
//! thread's even share would keep one thread busy while the others wait, and so would one text alone. Of a few tokens in
//! all every thread would read all weights for next to nothing.

use std::num::NonZeroUsize;

use crate::batch::RaggedBatch;

/// Tokens of one pass through the encoder on one thread. Its intermediate states should stay in a core's own cache, and
/// it should be large enough that reading the weights once per pass is cheap beside it.
const PASS_TOKENS: usize = 512;

/// A batch of so many tokens or fewer is computed by all threads together.
const TOGETHER_TOKENS_MAX: usize = 64;

/// Some texts of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Their numbers in the batch.
    pub(crate) texts: Vec<usize>,
    pub(crate) batch: RaggedBatch,
}

/// The pieces of a batch; each text is in one of them.
#[derive(Debug, Default)]
pub(crate) struct Division {
    /// Computed by all threads together, one after another.
    pub(crate) together: Vec<Piece>,
    /// Computed side by side, each by one thread.
    pub(crate) apart: Vec<Piece>,
}

impl Division {
    /// Divides `batch` among `threads`.
    pub(crate) fn new(batch: &RaggedBatch, threads: NonZeroUsize) -> Self {
        let all: Vec<usize> = (0..batch.texts()).collect();
        if threads == NonZeroUsize::MIN {
            return Self { together: Vec::new(), apart: parts(batch, &all, threads) };
        }
        if batch.tokens() <= TOGETHER_TOKENS_MAX {
            return Self { together: vec![Piece { texts: all, batch: batch.clone() }], apart: Vec::new() };
        }
        let share = batch.tokens() / threads;
        let lengths: Vec<usize> = batch.ranges().map(|range| range.len()).collect();
        let (long, rest): (Vec<usize>, Vec<usize>) = all.iter().partition(|text| lengths[**text] > share);
        let together = long.into_iter().filter_map(|text| {
            let texts = vec![text];
            Some(Piece { batch: batch.pick(&texts)?, texts })
        });
        let together = together.collect();
        let apart = batch.pick(&rest).map(|others| parts(&others, &rest, threads));
        Self { together, apart: apart.unwrap_or_default() }
    }
}

/// As many parts as fill passes of [`PASS_TOKENS`], and the same number for every thread. The texts of `batch` have the
/// numbers `texts`.
fn parts(batch: &RaggedBatch, texts: &[usize], threads: NonZeroUsize) -> Vec<Piece> {
    let passes = batch.tokens().div_ceil(PASS_TOKENS).next_multiple_of(threads.get());
    let mut rest = texts;
    let mut piece = |batch: RaggedBatch| {
        let (texts, others) = rest.split_at(batch.texts());
        rest = others;
        Piece { texts: texts.to_vec(), batch }
    };
    let passes = NonZeroUsize::new(passes).unwrap_or(NonZeroUsize::MIN);
    batch.split(passes).into_iter().map(&mut piece).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::TokenIds;

    fn batch(lengths: &[usize]) -> RaggedBatch {
        // Each text consists of its own number.
        let texts =
            lengths.iter().zip(0_u32..).map(|(length, text)| TokenIds::new(vec![text; *length]).unwrap());
        RaggedBatch::new(&texts.collect::<Vec<_>>()).unwrap()
    }

    fn divided(lengths: &[usize], threads: usize) -> Division {
        Division::new(&batch(lengths), NonZeroUsize::new(threads).unwrap())
    }

    fn texts(pieces: &[Piece]) -> Vec<&[usize]> {
        pieces.iter().map(|piece| &piece.texts[..]).collect()
    }

    #[test]
    fn text_alone_is_computed_by_all_threads() {
        for length in [1, 100, 8192] {
            let division = divided(&[length], 2);
            assert_eq!((texts(&division.together), division.apart.len()), (vec![&[0][..]], 0));
        }
    }

    #[test]
    fn long_text_does_not_keep_one_thread_busy_while_others_wait() {
        let division = divided(&[50, 60, 4000, 70, 80], 2);
        assert_eq!(texts(&division.together), [[2]]);
        assert_eq!(texts(&division.apart), [[0, 1], [3, 4]]);
    }

    #[test]
    fn few_tokens_are_computed_together_and_many_apart() {
        assert_eq!(texts(&divided(&[8, 9, 10], 2).together), [[0, 1, 2]]);
        let division = divided(&[100; 8], 2);
        assert!(division.together.is_empty());
        assert_eq!(texts(&division.apart), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    }

    #[test]
    fn one_thread_shares_with_nobody() {
        assert!(divided(&[8], 1).together.is_empty());
        assert!(divided(&[4000, 1], 1).together.is_empty());
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_piece_with_its_own_tokens(
            lengths in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..900], 1..40), threads in 1_usize..9
        ) {
            let whole = batch(&lengths);
            let division = Division::new(&whole, NonZeroUsize::new(threads).unwrap());
            let mut seen = vec![0; lengths.len()];
            for piece in division.together.iter().chain(&division.apart) {
                prop_assert_eq!(piece.texts.len(), piece.batch.texts());
                for (text, range) in piece.texts.iter().zip(piece.batch.ranges()) {
                    let ids = &piece.batch.ids()[range];
                    prop_assert_eq!(ids.len(), lengths[*text]);
                    prop_assert!(ids.iter().all(|id| *id as usize == *text));
                    seen[*text] += 1;
                }
            }
            prop_assert!(seen.iter().all(|seen| *seen == 1));
        }
    }
}

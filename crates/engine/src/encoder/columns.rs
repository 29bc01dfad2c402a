//! The order of a head's columns in packed weights: padded to what the kernels compute, and pairs that are turned
//! together sixteen columns apart.

use crate::config::Pairs;

/// Columns that a kernel computes at once, and half of them.
const BLOCK: usize = 32;
pub(super) const HALF: usize = BLOCK / 2;

/// Columns of a head of `width`, padding included.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(BLOCK)
}

/// For each column of a head in packed weights the column it is in the file; none where it is padding.
pub(super) fn in_order(width: usize) -> Vec<Option<usize>> {
    (0..padded(width)).map(|column| Some(column).filter(|column| *column < width)).collect()
}

/// The same for queries and keys that are turned: sixteen first numbers of pairs, then their sixteen second ones.
pub(super) fn in_pairs(width: usize, pairs: Pairs) -> Vec<Option<usize>> {
    let half = width / 2;
    let column = |packed: usize| {
        let pair = packed / BLOCK * HALF + packed % HALF;
        let second = packed % BLOCK / HALF;
        let column = match pairs {
            Pairs::Halves => pair + second * half,
            Pairs::Neighbours => 2 * pair + second,
        };
        Some(column).filter(|_| pair < half)
    };
    (0..padded(width)).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_there_once_and_padding_fills_the_block() {
        for width in [2, 12, 32, 48, 64, 96, 128] {
            let orders =
                [in_order(width), in_pairs(width, Pairs::Halves), in_pairs(width, Pairs::Neighbours)];
            for order in orders {
                assert_eq!(order.len() % 32, 0);
                let mut columns: Vec<usize> = order.into_iter().flatten().collect();
                columns.sort_unstable();
                assert_eq!(columns, (0..width).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn pairs_are_sixteen_columns_apart() {
        let halves = in_pairs(64, Pairs::Halves);
        assert_eq!((halves[3], halves[19], halves[32], halves[48]), (Some(3), Some(35), Some(16), Some(48)));
        let neighbours = in_pairs(64, Pairs::Neighbours);
        assert_eq!((neighbours[3], neighbours[19], neighbours[32]), (Some(6), Some(7), Some(32)));
        assert_eq!(in_pairs(12, Pairs::Halves)[6], None);
    }
}

//! How the members of a team divide a product.

use std::ops::Range;

use super::ROWS_TOGETHER;

/// With fewer rows for each member the weights are what a product waits for, and each reads a part of them; with more,
/// each reads all of them for a part of the rows.
const MEMBER_ROWS_MIN: usize = 64;

/// The part of a product that one thread computes: all inputs, for some panels of some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) rows: Range<usize>,
    pub(crate) panels: Range<usize>,
}

/// The shares of one product: no two have a row and a panel in common, and all together are the product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    rows: usize,
    panels: usize,
    /// Rows and panels of a share.
    share_rows: usize,
    share_panels: usize,
}

impl Shares {
    /// Divides `rows` by `panels` among `members`; a kernel multiplies `rows_at_once`.
    pub(crate) fn new(rows: usize, panels: usize, members: usize, rows_at_once: usize) -> Self {
        let whole = Self { rows, panels, share_rows: rows.max(1), share_panels: panels.max(1) };
        if members == 1 {
            whole
        } else if rows < members * MEMBER_ROWS_MIN {
            // Pairs of panels: two gated ones share their lines.
            Self { share_panels: panels.div_ceil(members).next_multiple_of(2).max(2), ..whole }
        } else {
            let turns = rows.div_ceil(members * ROWS_TOGETHER);
            Self { share_rows: rows.div_ceil(members * turns).next_multiple_of(rows_at_once), ..whole }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.share_rows) * self.panels.div_ceil(self.share_panels)
    }

    pub(crate) fn get(&self, index: usize) -> Share {
        let across = self.panels.div_ceil(self.share_panels);
        let (row, panel) = (index / across * self.share_rows, index % across * self.share_panels);
        Share {
            rows: row..self.rows.min(row + self.share_rows),
            panels: panel..self.panels.min(panel + self.share_panels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_product_and_have_nothing_in_common() {
        for members in 1..9 {
            for rows in (0..40).chain([64, 127, 128, 129, 500, 513, 4097]) {
                for panels in [1, 2, 3, 12, 36, 48, 97] {
                    let shares = Shares::new(rows, panels, members, 12);
                    let mut times = vec![0; rows * panels];
                    for Share { rows, panels: of } in (0..shares.count()).map(|index| shares.get(index)) {
                        let places = rows.flat_map(|row| of.clone().map(move |panel| row * panels + panel));
                        places.for_each(|place| times[place] += 1);
                    }
                    assert!(times.iter().all(|times| *times == 1), "{rows} {panels} {members}");
                }
            }
        }
    }

    #[test]
    fn few_rows_are_divided_by_panels_and_many_by_rows() {
        let few = Shares::new(8, 36, 2, 12);
        assert_eq!((few.count(), few.get(1)), (2, Share { rows: 0..8, panels: 18..36 }));
        let many = Shares::new(512, 36, 2, 32);
        assert_eq!((many.count(), many.get(1)), (2, Share { rows: 256..512, panels: 0..36 }));
        assert_eq!(Shares::new(2000, 36, 2, 32).count(), 8);
        assert_eq!(Shares::new(2000, 36, 1, 32).count(), 1);
    }
}

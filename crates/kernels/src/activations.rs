//! Rows of numbers between two kernels, laid out as the tier reads them.

use crate::aligned::Aligned;
use crate::convert::{from_bf16, to_bf16};
use crate::shared::SharedSlice;
use crate::tier::{Kind, Tier};

/// Columns that lie together: one cache line of bf16, two registers of f32.
pub(crate) const BLOCK: usize = 32;

/// Rows `(rows, width)` in the layout of a tier, in memory that is taken once.
///
/// ```text
///  bf16: blocks of 32 columns, each row of a block one cache line         else: f32, row after row
///   block 0: row 0, row 1, …, row n, slack        block 1: row 0, …
/// ```
/// Sixteen rows of a block are a tile wherever they begin, so that a text may begin at any row. A tile that begins at
/// the last row reads on into the slack: what it finds there is a number and is never used.
#[derive(Debug)]
pub struct Activations {
    tier: Tier,
    rows: usize,
    width: usize,
    pub(crate) layout: Layout,
}

#[derive(Debug)]
pub(crate) enum Layout {
    /// `stride` is the number of lines of a block, slack included.
    Blocks {
        values: Aligned<u16>,
        stride: usize,
    },
    Rows(Aligned<f32>),
}

/// The same, as several threads write to it: each its own rows or columns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SharedLayout<'a> {
    Blocks { values: SharedSlice<'a, u16>, stride: usize },
    Rows(SharedSlice<'a, f32>),
}

impl Activations {
    /// Room for `rows_max` rows of `width_max`; of no rows at first.
    #[must_use]
    pub fn new(tier: Tier, rows_max: usize, width_max: usize) -> Self {
        let layout = match tier.kind() {
            Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 => {
                let count = width_max.div_ceil(BLOCK) * stride(rows_max) * BLOCK;
                Layout::Blocks { values: Aligned::zeros(count), stride: 0 }
            }
            Kind::Avx512 | Kind::Avx2Int16 | Kind::Avx2 | Kind::Portable => {
                Layout::Rows(Aligned::zeros(rows_max * width_max))
            }
        };
        Self { tier, rows: 0, width: 0, layout }
    }

    /// Takes the shape `(rows, width)`. The values are then some numbers, until a kernel has written them.
    ///
    /// # Panics
    /// If the shape needs more room than there is.
    pub fn reshape(&mut self, rows: usize, width: usize) {
        let (needed, room) = match &mut self.layout {
            Layout::Blocks { values, stride: lines } => {
                *lines = stride(rows);
                (width.div_ceil(BLOCK) * *lines * BLOCK, values.len())
            }
            Layout::Rows(values) => (rows * width, values.len()),
        };
        assert!(
            needed <= room,
            "activations of {rows} rows and width {width} need {needed} of {room} places"
        );
        (self.rows, self.width) = (rows, width);
    }

    /// Takes over `values` `(rows, width)`, rounded to the tier's type.
    ///
    /// # Panics
    /// If `values` are no whole number of rows, or more than there is room for.
    pub fn fill(&mut self, values: &[f32], width: usize) {
        assert!(values.len().is_multiple_of(width), "{} values are no rows of {width}", values.len());
        self.reshape(values.len() / width, width);
        for (row, from) in values.chunks_exact(width).enumerate() {
            self.write_row(row, from);
        }
    }

    /// The values as f32 `(rows, width)`.
    #[must_use]
    pub fn to_rows(&self) -> Vec<f32> {
        let places = (0..self.rows).flat_map(|row| (0..self.width).map(move |column| (row, column)));
        places.map(|(row, column)| self.value(row, column)).collect()
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How wide a row is.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// Writes one row, and zeros behind it up to the end of its last block.
    fn write_row(&mut self, row: usize, from: &[f32]) {
        match &mut self.layout {
            Layout::Blocks { values, stride } => {
                for (block, from) in from.chunks(BLOCK).enumerate() {
                    let line = &mut values[(block * *stride + row) * BLOCK..][..BLOCK];
                    line.fill(0);
                    line.iter_mut().zip(from).for_each(|(to, from)| *to = to_bf16(*from));
                }
            }
            Layout::Rows(values) => values[row * self.width..][..self.width].copy_from_slice(from),
        }
    }

    pub(crate) fn shared(&mut self) -> SharedLayout<'_> {
        match &mut self.layout {
            Layout::Blocks { values, stride } => {
                SharedLayout::Blocks { values: SharedSlice::new(values), stride: *stride }
            }
            Layout::Rows(values) => SharedLayout::Rows(SharedSlice::new(values)),
        }
    }

    fn value(&self, row: usize, column: usize) -> f32 {
        match &self.layout {
            Layout::Blocks { values, stride } => {
                from_bf16(values[(column / BLOCK * stride + row) * BLOCK + column % BLOCK])
            }
            Layout::Rows(values) => values[row * self.width + column],
        }
    }
}

/// Lines of a block of `rows` rows: at least 31 more, and an odd multiple of 32, so that neighbouring blocks do not
/// share the sets of the L1 cache.
fn stride(rows: usize) -> usize {
    (rows + 62) / 64 * 64 + 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn stride_leaves_room_for_a_pair_of_tiles_after_the_last_row() {
        for rows in 0..300 {
            assert!(stride(rows) >= rows + 31, "{rows}");
            assert_eq!(stride(rows) % 64, 32);
        }
    }

    #[test]
    fn values_come_back_in_every_tier() {
        for tier in testing::tiers("values_come_back_in_every_tier") {
            let values: Vec<f32> = (0_u8..3 * 37).map(f32::from).collect();
            let mut activations = Activations::new(tier, 4, 40);
            activations.fill(&values, 37);
            assert_eq!(activations.to_rows(), values, "{}", tier.name());
        }
    }

    #[test]
    #[should_panic(expected = "activations of 200 rows")]
    fn shape_that_does_not_fit_panics() {
        Activations::new(Tier::detect(), 4, 40).reshape(200, 40);
    }
}

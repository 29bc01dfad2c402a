//! Layer norm over rows of f32.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::activations::BLOCK;
use crate::activations::{Activations, SharedLayout};
use crate::crew::Team;
use crate::shared::SharedSlice;
use crate::tier::{Kind, Tier};

/// Fewer rows are done before another thread has begun.
const MEMBER_ROWS_MIN: usize = 16;

/// Rows that are normalised side by side.
const ROWS: usize = 4;

/// `(v - mean) / √(variance + ε) · scale + shift` over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// A norm of rows as wide as `scale`.
    ///
    /// # Panics
    /// If `scale` and `shift` differ in length, or are empty.
    #[must_use]
    pub fn new(scale: &[f32], shift: &[f32], epsilon: f32) -> Self {
        assert!(
            !scale.is_empty() && scale.len() == shift.len(),
            "scale {}, shift {}",
            scale.len(),
            shift.len()
        );
        Self { scale: scale.to_vec(), shift: shift.to_vec(), epsilon }
    }

    /// Normalises `rows` `(rows, width)` where they are, and copies them into `to` for the next product. `team` is a
    /// [`Scratch`](crate::Scratch) or a [`Team`].
    ///
    /// # Panics
    /// If `rows` are no whole number of rows.
    pub fn apply<'t>(&self, rows: &mut [f32], to: &mut Activations, team: impl Into<Team<'t>>) {
        let tier = self.shape(rows, to);
        let (rows, to) = (SharedSlice::new(rows), to.shared());
        self.each(rows.len() / self.width(), team.into(), |group| {
            let values = group.start * self.width()..group.end * self.width();
            // SAFETY: each row is visited once, and the tier proves what the CPU has.
            unsafe {
                let rows = rows.part(values.clone());
                match to {
                    #[cfg(target_arch = "x86_64")]
                    SharedLayout::Blocks { values, stride } => {
                        self.to_blocks(tier.kind(), rows, Lines { values, stride, first: group.start });
                    }
                    SharedLayout::Rows(to) => {
                        self.apply_rows(tier.kind(), rows);
                        to.part(values).copy_from_slice(rows);
                    }
                    #[cfg(not(target_arch = "x86_64"))]
                    SharedLayout::Blocks { .. } => unreachable!("blocks are the layout of tiers of x86-64"),
                }
            }
        });
    }

    /// Puts the normalised `rows` `(rows, width)` into `to` for the next product, and leaves them as they are.
    ///
    /// # Panics
    /// If `rows` are no whole number of rows.
    pub fn copy<'t>(&self, rows: &[f32], to: &mut Activations, team: impl Into<Team<'t>>) {
        let tier = self.shape(rows, to);
        let to = to.shared();
        self.each(rows.len() / self.width(), team.into(), |group| {
            let values = group.start * self.width()..group.end * self.width();
            let rows = &rows[values.clone()];
            // SAFETY: as above.
            unsafe {
                match to {
                    #[cfg(target_arch = "x86_64")]
                    SharedLayout::Blocks { values, stride } => {
                        self.to_blocks(tier.kind(), rows, Lines { values, stride, first: group.start });
                    }
                    SharedLayout::Rows(to) => {
                        let to = to.part(values);
                        to.copy_from_slice(rows);
                        self.apply_rows(tier.kind(), to);
                    }
                    #[cfg(not(target_arch = "x86_64"))]
                    SharedLayout::Blocks { .. } => unreachable!("blocks are the layout of tiers of x86-64"),
                }
            }
        });
    }

    /// Calls `norm` for all rows, for [`ROWS`] of them or for one at a time.
    fn each(&self, rows: usize, mut team: Team<'_>, norm: impl Fn(Range<usize>) + Sync) {
        let share = if rows < MEMBER_ROWS_MIN * team.members() {
            rows
        } else {
            rows.div_ceil(team.members()).next_multiple_of(ROWS)
        };
        team.each(rows.div_ceil(share.max(1)), |index, _| {
            let end = rows.min((index + 1) * share);
            let mut row = index * share;
            while row < end {
                let count = if end - row < ROWS { 1 } else { ROWS };
                norm(row..row + count);
                row += count;
            }
        });
    }

    /// Gives `to` the shape of `rows`.
    fn shape(&self, rows: &[f32], to: &mut Activations) -> Tier {
        let width = self.width();
        assert!(rows.len().is_multiple_of(width), "{} values are no rows of {width}", rows.len());
        to.reshape(rows.len() / width, width);
        to.tier()
    }

    /// Writes as many rows as [`Self::each`] gives, as lines.
    ///
    /// # Safety
    /// The kind comes out of a tier whose layout is lines, and nobody else uses these meanwhile.
    #[cfg(target_arch = "x86_64")]
    unsafe fn to_blocks(&self, kind: Kind, rows: impl avx512::Rows, lines: Lines<'_>) {
        let is_group = rows.values().len() == ROWS * self.width();
        // SAFETY: as the caller says; a tier proves what the CPU has.
        unsafe {
            match (kind, is_group) {
                (Kind::Avx512Int16, true) => avx512::to_blocks_plainly::<ROWS>(self, rows, lines),
                (Kind::Avx512Int16, false) => avx512::to_blocks_plainly::<1>(self, rows, lines),
                (_, true) => avx512::to_blocks::<ROWS>(self, rows, lines),
                (_, false) => avx512::to_blocks::<1>(self, rows, lines),
            }
        }
    }

    /// Normalises as many rows as [`Self::each`] gives.
    fn apply_rows(&self, kind: Kind, rows: &mut [f32]) {
        match kind {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kind comes out of a tier, which proves that the CPU has AVX-512.
            Kind::Avx512 if rows.len() == ROWS * self.width() => unsafe { avx512::apply::<ROWS>(self, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512 => unsafe { avx512::apply::<1>(self, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, of AVX2.
            Kind::Avx2Int16 | Kind::Avx2 => unsafe { portable::apply_avx2(self, rows) },
            _ => portable::apply(self, rows),
        }
    }

    fn width(&self) -> usize {
        self.scale.len()
    }
}

/// Lines of each block of bf16, from `first` on.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    values: SharedSlice<'a, u16>,
    stride: usize,
    first: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Lines<'a> {
    /// # Safety
    /// Nobody else uses the line while the result is in use.
    #[inline(always)]
    unsafe fn of_block(self, row: usize, block: usize) -> &'a mut [u16] {
        let first = (block * self.stride + self.first + row) * BLOCK;
        // SAFETY: as the caller says.
        unsafe { self.values.part(first..first + BLOCK) }
    }
}

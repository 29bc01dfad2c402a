//! Layer norm over rows of f32.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
use crate::activations::BLOCK;
use crate::activations::{Activations, SharedLayout};
use crate::crew::Team;
use crate::shared::SharedSlice;
use crate::tier::{Kind, Tier};

/// Fewer rows are done before another thread has begun.
const MEMBER_ROWS_MIN: usize = 16;

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
        self.each(rows.len() / self.scale.len(), team.into(), |index| {
            let width = self.scale.len();
            // SAFETY: each row is visited once, and the tier proves what the CPU has.
            unsafe {
                let row = rows.part(index * width..(index + 1) * width);
                match to {
                    #[cfg(target_arch = "x86_64")]
                    SharedLayout::Blocks { values, stride } => {
                        avx512::apply_to_blocks(self, row, Lines { values, stride, index });
                    }
                    SharedLayout::Rows(to) => {
                        self.apply_row(tier.kind(), row);
                        to.part(index * width..(index + 1) * width).copy_from_slice(row);
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
        self.each(rows.len() / self.scale.len(), team.into(), |index| {
            let width = self.scale.len();
            let row = &rows[index * width..][..width];
            // SAFETY: as above.
            unsafe {
                match to {
                    #[cfg(target_arch = "x86_64")]
                    SharedLayout::Blocks { values, stride } => {
                        avx512::copy_to_blocks(self, row, Lines { values, stride, index });
                    }
                    SharedLayout::Rows(to) => {
                        let to = to.part(index * width..(index + 1) * width);
                        to.copy_from_slice(row);
                        self.apply_row(tier.kind(), to);
                    }
                    #[cfg(not(target_arch = "x86_64"))]
                    SharedLayout::Blocks { .. } => unreachable!("blocks are the layout of tiers of x86-64"),
                }
            }
        });
    }

    /// Calls `norm` for every row.
    fn each(&self, rows: usize, mut team: Team<'_>, norm: impl Fn(usize) + Sync) {
        let share =
            if rows < MEMBER_ROWS_MIN * team.members() { rows } else { rows.div_ceil(team.members()) };
        team.each(rows.div_ceil(share.max(1)), |index, _| {
            (index * share..rows.min((index + 1) * share)).for_each(&norm);
        });
    }

    /// Gives `to` the shape of `rows`.
    fn shape(&self, rows: &[f32], to: &mut Activations) -> Tier {
        let width = self.scale.len();
        assert!(rows.len().is_multiple_of(width), "{} values are no rows of {width}", rows.len());
        to.reshape(rows.len() / width, width);
        to.tier()
    }

    fn apply_row(&self, kind: Kind, row: &mut [f32]) {
        match kind {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kind comes out of a tier, which proves that the CPU has AVX-512.
            Kind::Avx512 => unsafe { avx512::apply(self, row) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, of AVX2.
            Kind::Avx2 => unsafe { portable::apply_avx2(self, row) },
            _ => portable::apply(self, row),
        }
    }
}

/// Line `index` of each block of bf16.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    values: SharedSlice<'a, u16>,
    stride: usize,
    index: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Lines<'a> {
    /// # Safety
    /// Nobody else uses the line while the result is in use.
    unsafe fn of_block(self, block: usize) -> &'a mut [u16] {
        let first = (block * self.stride + self.index) * BLOCK;
        // SAFETY: as the caller says.
        unsafe { self.values.part(first..first + BLOCK) }
    }
}

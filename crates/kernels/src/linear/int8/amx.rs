//! Whole numbers in tile registers: 32 rows by 32 columns are four tiles of sums.
//!
//! ```text
//!                     tmm6   tmm7        weights, a step of 64 inputs: 2 × (16 fours, 16 outputs)
//!   left   tmm4       tmm0   tmm1        sums, i32 (16, 16) each
//!   rows   tmm5       tmm2   tmm3
//! ```
//! As for bf16, vector units finish the block before while tiles of one block are multiplied.

use std::arch::asm;
use std::ops::Range;

use super::{LINE, Product, STEP};
use crate::activations::BLOCK;
use crate::linear::amx::{Tiles, store, zero};
use crate::linear::between::Between;
use crate::linear::fetch;
use crate::output::avx512::kinds::{Work, for_lines};
use crate::output::avx512::sums::Whole;
use crate::output::avx512::{Finish, Unfinished};
use crate::output::{Place, Sink};

/// # Safety
/// The CPU has AMX int8 and the kernel permits it, and nobody else computes these rows and panels.
pub(super) unsafe fn apply(product: Product<'_>, sink: Sink<'_>, whole: &mut [i32]) {
    let (lines, stride) = product.left.lines();
    let (rows, steps) = (product.rows, product.steps);
    assert!(rows.next_multiple_of(BLOCK) <= stride && steps * stride * LINE <= lines.len());
    let whole = whole[..BLOCK * BLOCK].as_mut_ptr();
    // SAFETY: the caller says that there are tiles.
    let _tiles = unsafe { Tiles::configure() };
    // SAFETY: tiles are configured; activations of this tier are lines of bf16.
    unsafe { for_lines(sink.ending, Run { product, sink, whole }) };
}

/// A product with all it needs. Tiles are configured, there is room for the whole sums of a block, and nobody else
/// computes these rows and panels.
struct Run<'a> {
    product: Product<'a>,
    sink: Sink<'a>,
    whole: *mut i32,
}

impl Work for Run<'_> {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    unsafe fn with<F: Finish>(self) {
        let Self { product, sink, whole } = self;
        let (lines, stride) = product.left.lines();
        let (rows, steps) = (product.rows, product.steps);
        // Of the 32 lines of weights that a step reads, what each block of rows fetches for the next panel.
        let share_ahead = BLOCK.div_ceil(rows.div_ceil(BLOCK).max(1));
        let mut before: Option<Place> = None;
        let mut unfinished = Unfinished::<F, Whole>::none();
        for (panel, weights) in product.panels() {
            for row in (0..rows).step_by(BLOCK) {
                let place = Place { row, rows: BLOCK.min(rows - row), panel };
                let rows_before = before.map_or(0, |before| before.rows);
                for step in 0..steps {
                    let operands = Operands {
                        left: lines[(step * stride + row) * LINE..].as_ptr(),
                        panel: weights[step * STEP..].as_ptr(),
                    };
                    // SAFETY: 32 lines from `row` on lie in each block of the left side, as asserted, and a pair of tiles for each
                    // step in the chunk of weights; there is room for 32 rows of 32.
                    unsafe {
                        match before {
                            _ if step > 0 => operands.step(place.rows),
                            None => operands.begin(place.rows),
                            Some(before) => operands.change(before.rows, place.rows, whole),
                        }
                    }
                    let ahead = weights.len() + (row / BLOCK * steps + step) * share_ahead * LINE;
                    fetch(weights.as_ptr().wrapping_add(ahead), share_ahead);
                    for _ in share(step, steps, rows_before) {
                        // SAFETY: as is said of the value; the sums were stored in the first step.
                        unsafe { unfinished.part() };
                    }
                }
                before = Some(place);
                unfinished = product.unfinished(sink, place, whole);
            }
        }
        if let Some(place) = before {
            // SAFETY: as above.
            unsafe {
                store(whole.cast(), BLOCK, place.rows);
                unfinished.rest();
            }
        }
    }
}

/// One step of 64 inputs: two tiles of rows (or one), two tiles of weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands {
    pub(crate) left: *const u8,
    pub(crate) panel: *const i8,
}

impl Operands {
    /// The first step of all: sums begin at zero.
    ///
    /// # Safety
    /// As of [`Operands::step`].
    #[inline]
    pub(crate) unsafe fn begin(self, rows: usize) {
        // SAFETY: as the caller says.
        unsafe {
            zero();
            self.step(rows);
        }
    }

    /// The first step of a block, while the sums of the block before go to `to` `(32, 32)`.
    ///
    /// # Safety
    /// As of [`Operands::step`]; `to` has room.
    #[inline]
    unsafe fn change(self, rows_before: usize, rows: usize, to: *mut i32) {
        // SAFETY: as the caller says.
        unsafe {
            if rows_before > 16 && rows > 16 {
                self.change_32(to);
            } else {
                store(to.cast(), BLOCK, rows_before);
                self.begin(rows);
            }
        }
    }

    /// Adds the products to tmm0 to tmm3, or to tmm0 and tmm1 where only sixteen rows are wanted.
    ///
    /// # Safety
    /// [`Tiles`] are configured; two tiles (or one) lie at `left` and two at `panel`.
    #[inline]
    pub(crate) unsafe fn step(self, rows: usize) {
        // SAFETY: as the caller says.
        unsafe { if rows > 16 { self.step_32() } else { self.step_16() } };
    }

    #[inline]
    unsafe fn step_32(self) {
        // SAFETY: as the caller of `step` says.
        unsafe {
            asm!(
                "tileloadd tmm6, [{panel} + {line}]",
                "tileloadd tmm4, [{left} + {line}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, line = in(reg) LINE,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Each tile of sums is stored, zeroed and added to in turn, so that the multiplier waits for no store.
    #[inline]
    unsafe fn change_32(self, to: *mut i32) {
        // SAFETY: as the caller of `change` says.
        unsafe {
            asm!(
                "tileloadd tmm6, [{panel} + {line}]",
                "tileloadd tmm4, [{left} + {line}]",
                "tilestored [{to} + {row}], tmm0",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tilestored [{to} + {row} + 64], tmm1",
                "tilezero tmm1",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tilestored [{to} + {row} + 2048], tmm2",
                "tilezero tmm2",
                "tdpbssd tmm2, tmm5, tmm6",
                "tilestored [{to} + {row} + 2112], tmm3",
                "tilezero tmm3",
                "tdpbssd tmm3, tmm5, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, to = in(reg) to,
                line = in(reg) LINE, row = in(reg) 4 * BLOCK,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline]
    unsafe fn step_16(self) {
        // SAFETY: as the caller of `step` says.
        unsafe {
            asm!(
                "tileloadd tmm6, [{panel} + {line}]",
                "tileloadd tmm4, [{left} + {line}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tdpbssd tmm1, tmm4, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, line = in(reg) LINE,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// The rows of the block before that are finished after `step`: none after the first, in which their sums are being
/// stored, unless it is the only one; all after the last.
fn share(step: usize, steps: usize, rows: usize) -> Range<usize> {
    let count = rows.div_ceil((steps - 1).max(1)).max(ROWS_AT_ONCE);
    let part = step.saturating_sub(1);
    if step == 0 && steps > 1 { 0..0 } else { (part * count).min(rows)..((part + 1) * count).min(rows) }
}

/// Fewer rows are not worth a call.
const ROWS_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_all_steps_are_all_rows_in_order() {
        for steps in 1..70 {
            for rows in 1..=BLOCK {
                let finished: Vec<usize> = (0..steps).flat_map(|step| share(step, steps, rows)).collect();
                assert_eq!(finished, (0..rows).collect::<Vec<_>>(), "{rows} rows, {steps} steps");
            }
        }
    }
}

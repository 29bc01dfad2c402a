//! The product in tile registers: 32 rows by 32 columns are four tiles of sums.
//!
//! ```text
//!                     tmm6   tmm7        weights, a step of 32 inputs: 2 × (16 pairs, 16 outputs)
//!   left   tmm4       tmm0   tmm1        sums, f32 (16, 16) each
//!   rows   tmm5       tmm2   tmm3
//! ```
//! While the tiles of one block are multiplied, the vector units finish the block before: the finishing is handed in
//! in small pieces between the steps, because a CPU cannot look far enough ahead to mix two long stretches itself.
//!
//! Tile registers keep their values from one `asm!` to the next: the compiler has no tile instructions, so nothing
//! between them touches one, and Linux saves them over a switch of threads.

use std::arch::asm;
use std::ops::Range;

use crate::activations::BLOCK;
use crate::output::avx512::finish_blocks;
use crate::output::{Place, Sink};
use crate::packed::TILE;

/// Numbers in the sums of a block.
const SUMS: usize = BLOCK * BLOCK;

/// Shapes of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles are sixteen rows of 64 bytes.
static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tiles of this thread, in our shapes until this is dropped.
#[derive(Debug)]
pub(crate) struct Tiles(());

impl Tiles {
    /// Sets the shapes anew at each kernel's begin: other code of the thread may have tiles of its own.
    ///
    /// # Safety
    /// The CPU has AMX and the kernel permits it.
    pub(crate) unsafe fn configure() -> Self {
        // SAFETY: the caller says that there are tiles; the shapes are valid for palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly, preserves_flags))
        };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: tiles were configured on this thread, so the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Tiles of rows of the left side: sixteen rows are 1024 bytes in one piece, and the next sixteen follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftTiles {
    pub(crate) start: *const u16,
    /// Numbers from one step of 32 columns to the next.
    pub(crate) step: usize,
}

/// Multiplies `steps` steps and leaves the sums in tmm0 to tmm3, or in tmm0 and tmm1 where only sixteen rows are
/// wanted.
///
/// # Safety
/// [`Tiles`] are configured; `left` has 32 (or sixteen) rows at each step, `panel` two tiles.
#[inline]
pub(crate) unsafe fn multiply(left: LeftTiles, panel: *const u16, steps: usize, rows: usize) {
    // SAFETY: tiles are configured.
    unsafe { zero() };
    for step in 0..steps {
        let left = left.start.wrapping_add(step * left.step);
        // SAFETY: the caller says what lies there.
        unsafe { Operands { left, panel: panel.wrapping_add(step * 2 * TILE) }.step(rows) };
    }
}

/// Writes the sums `(32, 32)`, or `(16, 32)` of sixteen rows, to `to`, whose rows are `stride` numbers apart.
///
/// # Safety
/// [`Tiles`] are configured, and `to` has room for those rows.
#[inline]
pub(crate) unsafe fn store(to: *mut f32, stride: usize, rows: usize) {
    // SAFETY: the caller says that there is room.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            to = in(reg) to, stride = in(reg) stride * 4, options(nostack, preserves_flags),
        );
        if rows > 16 {
            asm!(
                "tilestored [{to} + {stride}], tmm2",
                "tilestored [{to} + {stride} + 64], tmm3",
                to = in(reg) to.add(16 * stride), stride = in(reg) stride * 4, options(nostack, preserves_flags),
            );
        }
    }
}

/// # Safety
/// [`Tiles`] are configured.
#[inline]
pub(super) unsafe fn zero() {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// One step of 32 inputs: two tiles of rows (or one), two tiles of weights.
#[derive(Debug, Clone, Copy)]
struct Operands {
    left: *const u16,
    panel: *const u16,
}

impl Operands {
    /// The first step of all: sums begin at zero.
    ///
    /// # Safety
    /// As of [`Operands::step`].
    #[inline]
    unsafe fn begin(self, rows: usize) {
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
    unsafe fn change(self, rows_before: usize, rows: usize, to: *mut f32) {
        // SAFETY: as the caller says.
        unsafe {
            if rows_before > 16 && rows > 16 {
                self.change_32(to);
            } else {
                store(to, BLOCK, rows_before);
                self.begin(rows);
            }
        }
    }

    /// Adds the products to tmm0 to tmm3, or to tmm0 and tmm1 where only sixteen rows are wanted.
    ///
    /// # Safety
    /// [`Tiles`] are configured; two tiles (or one) lie at `left` and two at `panel`.
    #[inline]
    unsafe fn step(self, rows: usize) {
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
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Each tile of sums is stored, zeroed and added to in turn, so that the multiplier waits for no store.
    #[inline]
    unsafe fn change_32(self, to: *mut f32) {
        // SAFETY: as the caller of `change` says.
        unsafe {
            asm!(
                "tileloadd tmm6, [{panel} + {line}]",
                "tileloadd tmm4, [{left} + {line}]",
                "tilestored [{to} + {row}], tmm0",
                "tilezero tmm0",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tilestored [{to} + {row} + 64], tmm1",
                "tilezero tmm1",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {line} + 1024]",
                "tilestored [{to} + {row} + 2048], tmm2",
                "tilezero tmm2",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tilestored [{to} + {row} + 2112], tmm3",
                "tilezero tmm3",
                "tdpbf16ps tmm3, tmm5, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, to = in(reg) to,
                line = in(reg) 64_usize, row = in(reg) 4 * BLOCK,
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
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                left = in(reg) self.left, panel = in(reg) self.panel, line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// One linear layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    /// Blocks of `stride` lines.
    pub(super) left: &'a [u16],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) weights: &'a [u16],
    /// Steps of 32 inputs.
    pub(super) steps: usize,
    pub(super) bias: &'a [f32],
}

/// # Safety
/// The CPU has AMX bf16 and the kernel permits it.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
pub(super) unsafe fn apply(product: Product<'_>, sink: &mut Sink<'_>, sums: &mut [f32]) {
    let Product { left, stride, rows, weights, steps, bias } = product;
    assert!(rows + 31 <= stride && steps * stride * BLOCK <= left.len());
    let sums = &mut sums[..SUMS];
    // Of the 32 lines of weights that a step reads, what each block of rows fetches for the next panel.
    let share_ahead = BLOCK.div_ceil(rows.div_ceil(BLOCK).max(1));
    let mut before: Option<Place> = None;
    // SAFETY: the caller says that there are tiles.
    let _tiles = unsafe { Tiles::configure() };
    for (panel, weights) in weights.chunks_exact(steps * 2 * TILE).enumerate() {
        for row in (0..rows).step_by(BLOCK) {
            let place = Place { row, rows: BLOCK.min(rows - row), panel };
            let start = left[row * BLOCK..].as_ptr();
            for step in 0..steps {
                let operands = Operands {
                    left: start.wrapping_add(step * stride * BLOCK),
                    panel: weights[step * 2 * TILE..].as_ptr(),
                };
                // SAFETY: 32 lines from `row` on lie in each block of the left side, as asserted, and a pair of tiles for each
                // step in the chunk of weights; sums have room for 32 rows of 32.
                unsafe {
                    match before {
                        _ if step > 0 => operands.step(place.rows),
                        None => operands.begin(place.rows),
                        Some(before) => operands.change(before.rows, place.rows, sums.as_mut_ptr()),
                    }
                }
                let ahead = weights
                    .as_ptr()
                    .wrapping_add(weights.len() + (row / BLOCK * steps + step) * share_ahead * BLOCK);
                prefetch(ahead, share_ahead);
                if let Some(place) = before {
                    let range = share(step, steps, place.rows);
                    if !range.is_empty() {
                        finish_blocks(sink, place, sums, bias, range);
                    }
                }
            }
            before = Some(place);
        }
    }
    if let Some(place) = before {
        // SAFETY: as above.
        unsafe { store(sums.as_mut_ptr(), BLOCK, place.rows) };
        finish_blocks(sink, place, sums, bias, 0..place.rows);
    }
}

/// Fetches `count` lines into the L2 cache. Weights of a layer do not stay there from one pass to the next, and a tile
/// that is waited for stops everything.
#[inline]
pub(super) fn prefetch(from: *const u16, count: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for line in 0..count {
        // SAFETY: a prefetch of any address is allowed and reads nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line * BLOCK).cast()) };
    }
}

/// The rows of the block before that are finished after `step`: none after the first, in which their sums are being
/// stored, unless it is the only one; all after the last.
pub(super) fn share(step: usize, steps: usize, rows: usize) -> Range<usize> {
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

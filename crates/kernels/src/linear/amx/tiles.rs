//! Tile registers: their shapes, and the instructions on them.
//!
//! Tile registers keep their values from one `asm!` to the next: the compiler has no tile instructions, so nothing
//! between them touches one, and Linux saves them over a switch of threads.

use std::arch::asm;

use crate::activations::BLOCK;
use crate::linear::between::Between;
use crate::packed::TILE;

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
        let panel = panel.wrapping_add(step * 2 * TILE);
        // SAFETY: the caller says what lies there.
        unsafe {
            asm!(
                "tileloadd tmm6, [{panel} + {line}]",
                "tileloadd tmm4, [{left} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{panel} + {line} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                left = in(reg) left, panel = in(reg) panel, line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
            if rows > 16 {
                asm!(
                    "tileloadd tmm5, [{left} + {line} + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    left = in(reg) left, line = in(reg) 64_usize,
                    out("tmm2") _, out("tmm3") _, out("tmm5") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
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
pub(crate) unsafe fn zero() {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// One step of 32 inputs: 32 rows, two tiles of weights.
///
/// ```text
///                     tmm6   tmm7        weights, a step of 32 inputs: 2 × (16 pairs, 16 outputs)
///   left   tmm4       tmm0   tmm1        sums, f32 (16, 16) each
///   rows   tmm5       tmm2   tmm3
/// ```
/// A step is made of four quarters, one for each tile of sums, so that a caller can do something between them. Each
/// operand is loaded as soon as its register is free, for the step after: the multiplier never waits for the caller's
/// work to end before a load begins. Rows are read past the L1 cache (`t1`), each once for a panel, so that the weights
/// stay there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub(super) left: *const u16,
    pub(super) panel: *const u16,
}

/// Where sums go before the first step of a block, and where those of the next begin: at 32 rows of 32, or at one row
/// for all if `stride` is zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) to: *mut f32,
    pub(super) from: *const f32,
    /// Bytes from row to row of `from`.
    pub(super) stride: usize,
}

/// `quarter!(change, offset, sum, left, right)`: adds a product to a tile of sums, which are first changed if need be.
macro_rules! quarter {
    ($change:expr, $row:literal, $column:literal, $sum:tt, $left:literal, $right:literal) => {
        match $change {
            Some(Change { to, from, stride }) => asm!(
                concat!("tilestored [{to} + {line}], ", $sum),
                concat!("tileloadd ", $sum, ", [{from} + {stride}]"),
                concat!("tdpbf16ps ", $sum, ", ", $left, ", ", $right),
                to = in(reg) to.wrapping_add($row * BLOCK + $column),
                from = in(reg) from.wrapping_byte_add($row * stride).wrapping_add($column),
                line = in(reg) 4 * BLOCK, stride = in(reg) stride,
                out($sum) _, options(nostack, preserves_flags),
            ),
            None => asm!(
                concat!("tdpbf16ps ", $sum, ", ", $left, ", ", $right),
                out($sum) _, options(nostack, nomem, preserves_flags),
            ),
        }
    };
}

/// `load!(instruction, tile, address)`: sixteen rows of 64 bytes.
macro_rules! load {
    ($instruction:literal, $tile:tt, $from:expr) => {
        asm!(
            concat!($instruction, " ", $tile, ", [{from} + {line}]"),
            from = in(reg) $from, line = in(reg) 64_usize,
            out($tile) _, options(nostack, readonly, preserves_flags),
        )
    };
}

impl Operands {
    /// Loads the operands of the first step of all.
    ///
    /// # Safety
    /// [`Tiles`] are configured; two tiles lie at `left` and two at `panel`.
    #[inline]
    pub(super) unsafe fn load(self) {
        // SAFETY: as the caller says.
        unsafe {
            load!("tileloadd", "tmm6", self.panel);
            load!("tileloadd", "tmm4", self.left);
            load!("tileloadd", "tmm7", self.panel.wrapping_add(TILE));
            load!("tileloadd", "tmm5", self.left.wrapping_add(TILE));
        }
    }

    /// Does the step whose operands are loaded, and loads these. A part of `between` is done after each quarter. `ALONE` says that
    /// these rows are the only ones, and read again for the next panel.
    ///
    /// # Safety
    /// [`Tiles`] are configured; two tiles lie at `left` and two at `panel`; `change` can be written and read; `between` may be done.
    #[inline]
    pub(super) unsafe fn step<const ALONE: bool>(
        self,
        rows: usize,
        change: Option<Change>,
        between: &mut impl Between,
    ) {
        let is_half = rows <= 16;
        // SAFETY: as the caller says.
        unsafe {
            quarter!(change, 0, 0, "tmm0", "tmm4", "tmm6");
            between.part();
            quarter!(change, 0, 16, "tmm1", "tmm4", "tmm7");
            if ALONE {
                load!("tileloadd", "tmm4", self.left);
            } else {
                load!("tileloaddt1", "tmm4", self.left);
            }
            between.part();
            if !is_half || change.is_some() {
                quarter!(change, 16, 0, "tmm2", "tmm5", "tmm6");
            }
            load!("tileloadd", "tmm6", self.panel);
            between.part();
            if !is_half || change.is_some() {
                quarter!(change, 16, 16, "tmm3", "tmm5", "tmm7");
            }
            load!("tileloadd", "tmm7", self.panel.wrapping_add(TILE));
            if !ALONE {
                load!("tileloaddt1", "tmm5", self.left.wrapping_add(TILE));
            } else if !is_half {
                load!("tileloadd", "tmm5", self.left.wrapping_add(TILE));
            }
            between.part();
        }
    }
}

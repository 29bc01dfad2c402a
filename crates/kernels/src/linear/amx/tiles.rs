//! Tile registers: their shapes, and the instructions on them.
//!
//! Tile registers keep their values from one `asm!` to the next: the compiler has no tile instructions, so nothing
//! between them touches one, and Linux saves them over a switch of threads.

use std::arch::asm;

use crate::activations::BLOCK;
use crate::linear::CACHE_LINE_BYTES;
use crate::linear::between::Between;

/// Sixteen lines.
pub(super) const TILE_BYTES: usize = 16 * CACHE_LINE_BYTES;

/// What a step reads of either side: two tiles.
pub(super) const STEP_BYTES: usize = 2 * TILE_BYTES;

/// What the numbers in tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// 32 of them to a line, their sums f32.
    Bf16,
    /// 64 signed whole numbers to a line, their sums i32.
    Int8,
}

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

/// Multiplies `steps` steps of both sides with each other and keeps no sum: what tiles can do at most.
///
/// # Safety
/// [`Tiles`] are configured, and the CPU multiplies these numbers; both sides are two tiles long at each step.
pub(crate) unsafe fn repeat(numbers: Numbers, left: &[u8], panel: &[u8]) {
    for (left, panel) in left.chunks_exact(STEP_BYTES).zip(panel.chunks_exact(STEP_BYTES)) {
        let operands = Operands { left: left.as_ptr(), panel: panel.as_ptr() };
        // SAFETY: as the caller says.
        unsafe { operands.step::<true>(numbers, BLOCK, None, &mut ()) };
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

/// One step of a line: 32 rows, two tiles of weights.
///
/// ```text
///                     tmm6   tmm7        weights, a step: 2 × (16 pairs or fours, 16 outputs)
///   left   tmm4       tmm0   tmm1        sums, (16, 16) each
///   rows   tmm5       tmm2   tmm3
/// ```
/// A step is made of four quarters, one for each tile of sums, so that a caller can do something between them. Each
/// operand is loaded as soon as its register is free, for the step after: the multiplier never waits for the caller's
/// work to end before a load begins. Rows are read past the L1 cache (`t1`), each once for a panel, so that the weights
/// stay there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub(super) left: *const u8,
    pub(super) panel: *const u8,
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

/// `quarter!(numbers, change, row, column, sum, left, right)`: adds a product to a tile of sums, which are first changed if
/// need be.
macro_rules! quarter {
    ($numbers:expr, $change:expr, $row:literal, $column:literal, $sum:tt, $left:literal, $right:literal) => {
        if let Some(Change { to, from, stride }) = $change {
            asm!(
                concat!("tilestored [{to} + {line}], ", $sum),
                concat!("tileloadd ", $sum, ", [{from} + {stride}]"),
                to = in(reg) to.wrapping_add($row * BLOCK + $column),
                from = in(reg) from.wrapping_byte_add($row * stride).wrapping_add($column),
                line = in(reg) 4 * BLOCK, stride = in(reg) stride,
                out($sum) _, options(nostack, preserves_flags),
            );
        }
        match $numbers {
            Numbers::Bf16 => asm!(
                concat!("tdpbf16ps ", $sum, ", ", $left, ", ", $right),
                out($sum) _, options(nostack, nomem, preserves_flags),
            ),
            Numbers::Int8 => asm!(
                concat!("tdpbssd ", $sum, ", ", $left, ", ", $right),
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
            load!("tileloadd", "tmm7", self.panel.wrapping_add(TILE_BYTES));
            load!("tileloadd", "tmm5", self.left.wrapping_add(TILE_BYTES));
        }
    }

    /// Does the step whose operands are loaded, and loads these. A part of `between` is done after each quarter. `ALONE` says that
    /// these rows are the only ones, and read again for the next panel.
    ///
    /// # Safety
    /// [`Tiles`] are configured; two tiles lie at `left` and two at `panel`; `change` can be written and read; `between` may be done.
    #[inline(always)]
    pub(super) unsafe fn step<const ALONE: bool>(
        self,
        numbers: Numbers,
        rows: usize,
        change: Option<Change>,
        between: &mut impl Between,
    ) {
        let is_half = rows <= 16;
        // SAFETY: as the caller says.
        unsafe {
            quarter!(numbers, change, 0, 0, "tmm0", "tmm4", "tmm6");
            between.part();
            quarter!(numbers, change, 0, 16, "tmm1", "tmm4", "tmm7");
            if ALONE {
                load!("tileloadd", "tmm4", self.left);
            } else {
                load!("tileloaddt1", "tmm4", self.left);
            }
            between.part();
            if !is_half || change.is_some() {
                quarter!(numbers, change, 16, 0, "tmm2", "tmm5", "tmm6");
            }
            load!("tileloadd", "tmm6", self.panel);
            between.part();
            if !is_half || change.is_some() {
                quarter!(numbers, change, 16, 16, "tmm3", "tmm5", "tmm7");
            }
            load!("tileloadd", "tmm7", self.panel.wrapping_add(TILE_BYTES));
            if !ALONE {
                load!("tileloaddt1", "tmm5", self.left.wrapping_add(TILE_BYTES));
            } else if !is_half {
                load!("tileloadd", "tmm5", self.left.wrapping_add(TILE_BYTES));
            }
            between.part();
        }
    }
}

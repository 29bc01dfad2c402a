//! Tile instructions of attention: sixteen queries and 32 keys at a time.
//!
//! ```text
//!   scores    tmm4 queries    × tmm5 keys     = tmm3, tmm6
//!   results   tmm4 weights    × tmm5 values   = tmm0, tmm1      32 columns of values
//!                             × tmm7 ones     = tmm2            sums of the weights, the same in each column
//! ```
//! Scores stay in their tiles until they are stored, and results as well: a caller does something else meanwhile.

use std::arch::asm;

use crate::activations::BLOCK;
use crate::linear::amx::LeftTiles;
use crate::packed::TILE;

/// Numbers in a row of results: 32 columns, and sixteen times the sum of the weights.
pub(super) const RESULT: usize = BLOCK + 16;

/// A tile of bf16 that adds up: each number is one.
#[repr(align(64))]
struct Ones([u16; TILE]);

static ONES: Ones = Ones([0x3f80; TILE]);

/// Loads the tile of ones, which stays where it is.
///
/// # Safety
/// [`Tiles`](crate::linear::amx::Tiles) are configured.
#[inline]
pub(super) unsafe fn load_ones() {
    // SAFETY: as the caller says; the tile of ones is as large as a tile.
    unsafe {
        asm!(
            "tileloadd tmm7, [{ones} + {line}]",
            ones = in(reg) ONES.0.as_ptr(), line = in(reg) 64_usize,
            out("tmm7") _, options(nostack, readonly, preserves_flags),
        );
    }
}

/// Begins results at zero.
///
/// # Safety
/// As of [`load_ones`].
#[inline]
pub(super) unsafe fn begin() {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2",
            out("tmm0") _, out("tmm1") _, out("tmm2") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Computes the scores of sixteen queries and 32 keys.
///
/// # Safety
/// As of [`load_ones`]; at each of `steps` steps lies a tile of queries, and two of keys.
#[inline(always)]
pub(super) unsafe fn score(queries: LeftTiles, keys: *const u16, steps: usize) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilezero tmm3", "tilezero tmm6",
            out("tmm3") _, out("tmm6") _, options(nostack, nomem, preserves_flags),
        );
        for step in 0..steps {
            asm!(
                "tileloadd tmm4, [{queries} + {line}]",
                "tileloadd tmm5, [{keys} + {line}]",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "tileloadd tmm5, [{keys} + {line} + 1024]",
                "tdpbf16ps tmm6, tmm4, tmm5",
                queries = in(reg) queries.start.wrapping_add(step * queries.step),
                keys = in(reg) keys.wrapping_add(step * 2 * TILE), line = in(reg) 64_usize,
                out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// Writes the scores of the first sixteen keys to `to`, whose rows are `stride` numbers apart.
///
/// # Safety
/// As of [`load_ones`]; `to` has room for sixteen rows of sixteen.
#[inline(always)]
pub(super) unsafe fn store_first_scores(to: *mut f32, stride: usize) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}], tmm3",
            to = in(reg) to, stride = in(reg) 4 * stride, options(nostack, preserves_flags),
        );
    }
}

/// The same of the other sixteen.
///
/// # Safety
/// As of [`store_first_scores`].
#[inline(always)]
pub(super) unsafe fn store_second_scores(to: *mut f32, stride: usize) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}], tmm6",
            to = in(reg) to, stride = in(reg) 4 * stride, options(nostack, preserves_flags),
        );
    }
}

/// Adds to the results sixteen rows of 32 weights, times the two tiles of 32 values.
///
/// # Safety
/// As of [`load_ones`], which has been called; a tile lies at `weights` and two at `values`.
#[inline]
pub(super) unsafe fn weigh(weights: *const u16, values: *const u16) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tileloadd tmm4, [{weights} + {line}]",
            "tileloadd tmm5, [{values} + {line}]",
            "tdpbf16ps tmm2, tmm4, tmm7",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tileloadd tmm5, [{values} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm5",
            weights = in(reg) weights, values = in(reg) values, line = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm4") _, out("tmm5") _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Writes the results of sixteen queries to `to`.
///
/// # Safety
/// As of [`load_ones`]; `to` has room for sixteen rows of [`RESULT`].
#[inline]
pub(super) unsafe fn store_results(to: *mut f32) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 64], tmm1",
            "tilestored [{to} + {stride} + 128], tmm2",
            to = in(reg) to, stride = in(reg) 4 * RESULT, options(nostack, preserves_flags),
        );
    }
}

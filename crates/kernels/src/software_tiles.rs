//! Tile instructions in software, so that the kernels of tiles are tested on a CPU that has none.
//!
//! A CPU without AMX raises a fault at each tile instruction. Linux makes it the signal `SIGILL`, whose handler here does
//! what the instruction would have done, and goes on behind it. The kernels are the same code to the last instruction,
//! and memory that tiles are read from and written to is read and written by Rust, where AddressSanitizer sees it.
//!
//! ```text
//!   kernel: tdpbf16ps ──▶ #UD ──▶ SIGILL ──▶ trap ──▶ Instruction::decode ──▶ TileFile ──▶ kernel, next instruction
//! ```
//! **Goals**: every instruction that the kernels use, as Intel's manual describes it (Software Developer's Manual,
//! volume 2, "Intel AMX instruction reference"), with sums rounded in its order.
//!
//! **Non-goals**: speed (a trap takes microseconds), other instructions, shapes that the kernels never configure, and
//! programs: only the feature `software-tiles`, which tests alone switch on, compiles this.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod instruction;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tile_file;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod trap;

use std::sync::OnceLock;

static SWITCHED_ON: OnceLock<bool> = OnceLock::new();

/// Carries out tile instructions in software from now on, in every thread of this process: [`Tier::available`] then names
/// tiles. Changes nothing where the CPU lacks the rest of that tier (AVX-512 with bf16), and where it has tiles, as it
/// raises no fault there.
///
/// [`Tier::available`]: crate::Tier::available
pub fn switch_on() {
    SWITCHED_ON.get_or_init(take_faults);
}

/// Whether [`switch_on`] was called, and could be obeyed.
pub(crate) fn are_on() -> bool {
    SWITCHED_ON.get() == Some(&true)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn take_faults() -> bool {
    crate::Tier::force("avx512-bf16").is_ok() && trap::install()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn take_faults() -> bool {
    false
}

//! The rate that nothing can exceed: multiply-adds on operands in the L1 cache, with nothing around them.

use std::time::Duration;

use crate::activations::BLOCK;
use crate::aligned::Aligned;
use crate::linear::{Left, ROWS, multiply};
use crate::tier::{Kind, Tier};

/// Inputs of the product that is repeated: both operands are 16 KiB of bf16 or 12 and 32 KiB of f32.
const DEPTH: usize = 256;

/// Floating-point operations a second of one thread, measured for about `time`: what a figure of a kernel is a share of.
/// A multiply-add counts as two.
#[must_use]
pub fn peak(tier: Tier, time: Duration) -> f64 {
    const RUNS: u32 = 200;
    let start = std::time::Instant::now();
    let mut best = 0.0_f64;
    while start.elapsed() < time {
        let before = start.elapsed();
        let flop = run(tier, RUNS);
        best = best.max(flop / (start.elapsed() - before).as_secs_f64());
    }
    best
}

/// Repeats a product `runs` times and says how many operations that were.
fn run(tier: Tier, runs: u32) -> f64 {
    let rows = match tier.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::AmxBf16 => {
            // SAFETY: the tier proves that the CPU has AMX bf16.
            unsafe { tiles(runs) };
            BLOCK
        }
        kind => {
            let (left, panel) = (Aligned::<f32>::zeros(ROWS * DEPTH), Aligned::<f32>::zeros(DEPTH * BLOCK));
            let mut sums = Aligned::<f32>::zeros(ROWS * BLOCK);
            for _ in 0..runs {
                multiply(kind, Left { values: &left, stride: DEPTH, rows: ROWS }, &panel, &mut sums, BLOCK);
            }
            std::hint::black_box(&sums);
            ROWS
        }
    };
    2.0 * f64::from(runs) * (rows * BLOCK * DEPTH) as f64
}

/// # Safety
/// The CPU has AMX bf16 and the kernel permits it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tiles(runs: u32) {
    use crate::linear::amx::{LeftTiles, Tiles, multiply};

    let (left, panel) = (Aligned::<u16>::zeros(DEPTH * BLOCK), Aligned::<u16>::zeros(DEPTH * BLOCK));
    let left = LeftTiles { start: left.as_ptr(), step: BLOCK * BLOCK };
    // SAFETY: the caller says that there are tiles; both sides hold `DEPTH / 32` steps of two tiles.
    unsafe {
        let _tiles = Tiles::configure();
        for _ in 0..runs {
            multiply(left, panel.as_ptr(), DEPTH / BLOCK, BLOCK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn peak_of_every_tier_is_a_rate() {
        for tier in testing::tiers("peak_of_every_tier_is_a_rate") {
            let rate = peak(tier, Duration::from_micros(1));
            assert!(rate.is_finite() && rate > 0.0, "{}: {rate}", tier.name());
        }
    }
}

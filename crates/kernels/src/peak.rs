//! The rate that nothing can exceed: multiply-adds on operands in the L1 cache, with nothing around them.
//!
//! Operands are numbers without a pattern. On zeros tiles are a third faster, because the CPU then needs less power and
//! raises its clock: a rate that no real product sees.

use std::time::Duration;

use crate::activations::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::aligned::bytes;
use crate::aligned::{Aligned, Plain};
#[cfg(target_arch = "x86_64")]
use crate::convert::to_bf16;
#[cfg(target_arch = "x86_64")]
use crate::linear::amx::{Numbers, Tiles, repeat};
use crate::linear::int8::{self, STEP};
use crate::linear::portable::{self, Matrix};
#[cfg(target_arch = "x86_64")]
use crate::linear::{Left, ROWS, bf16, multiply, whole};
use crate::quantise::LINE;
#[cfg(target_arch = "x86_64")]
use crate::tier::PanelKind;
use crate::tier::{Int8Kind, Kind, Tier};

/// Inputs of the product that is repeated: both operands are 16 KiB of bf16, or 12 and 32 KiB of f32, half at a time.
const DEPTH: usize = 256;

/// Floating-point operations a second of one thread, measured for about `time`: what a figure of a kernel is a share of.
/// A multiply-add counts as two.
#[must_use]
pub fn peak(tier: Tier, time: Duration) -> f64 {
    best_rate(time, || run(tier, RUNS))
}

/// The same of int8.
#[must_use]
pub fn peak_int8(tier: Tier, time: Duration) -> f64 {
    let kind = tier.int8_kind();
    best_rate(time, || run_int8(kind, RUNS))
}

/// Products between two looks at the clock: a tenth of a millisecond, for which a neighbour on the same core may well rest.
const RUNS: u32 = 200;

/// The best rate of what `run` does, which says how many operations that was.
fn best_rate(time: Duration, run: impl Fn() -> f64) -> f64 {
    let start = std::time::Instant::now();
    let mut best = 0.0_f64;
    loop {
        let before = start.elapsed();
        let operations = run();
        best = best.max(operations / (start.elapsed() - before).as_secs_f64());
        if start.elapsed() >= time {
            return best;
        }
    }
}

/// Numbers made of random bits.
fn filled<T: Plain>(count: usize, of: impl Fn(u32) -> T) -> Aligned<T> {
    let mut values = Aligned::zeros(count);
    let mut number = 1_u32;
    for value in values.iter_mut() {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = of(number);
    }
    values
}

/// In [-1, 1).
fn float(number: u32) -> f32 {
    (number >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Repeats a product `runs` times and says how many operations that were.
fn run(tier: Tier, runs: u32) -> f64 {
    let rows = match tier.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::AmxBf16 => {
            let sides = [0, 1].map(|_| filled(DEPTH * BLOCK, |number| to_bf16(float(number))));
            // SAFETY: the tier proves that the CPU has AMX bf16.
            unsafe { tiles(Numbers::Bf16, bytes(&sides[0]), bytes(&sides[1]), runs) };
            BLOCK
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Bf16 => {
            // SAFETY: the tier proves that the CPU has bf16 in 512-bit registers.
            let multiply = |left: bf16::Lines<'_>, panel: &[u16], sums: &mut [f32]| unsafe {
                bf16::multiply(left, panel, sums, BLOCK);
            };
            pairs(runs, |number| to_bf16(float(number)), multiply)
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Int16 => {
            // SAFETY: the tier proves that the CPU has VNNI. Any bits are whole numbers.
            let multiply = |left: bf16::Lines<'_>, panel: &[u16], sums: &mut [f32]| unsafe {
                bf16::multiply_whole(left, panel, sums, BLOCK);
            };
            pairs(runs, whole_number, multiply)
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2Int16 => {
            // SAFETY: the tier proves that the CPU has AVX2. Any bits are whole numbers.
            let multiply = |left: bf16::Lines<'_>, panel: &[u16], sums: &mut [f32]| unsafe {
                whole::avx2::multiply(left, panel, whole::avx2::End::Floats, (sums, BLOCK));
            };
            pairs(runs, whole_number, multiply)
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => panels(PanelKind::Avx512, runs),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => panels(PanelKind::Avx2, runs),
        _ => {
            let (left, right) = (filled(BLOCK * DEPTH, float), filled(DEPTH * BLOCK, float));
            let mut sums = Aligned::<f32>::zeros(BLOCK * BLOCK);
            let left = Matrix { values: &left, row: DEPTH, column: 1 };
            let right = Matrix { values: &right, row: BLOCK, column: 1 };
            for _ in 0..runs {
                portable::multiply([BLOCK, DEPTH, BLOCK], left, right, &mut sums, BLOCK);
            }
            std::hint::black_box(&sums);
            BLOCK
        }
    };
    2.0 * f64::from(runs) * (rows * BLOCK * DEPTH) as f64
}

/// Twice `runs` times half a panel, which is 16 KiB; says how many rows.
#[cfg(target_arch = "x86_64")]
fn panels(kind: PanelKind, runs: u32) -> usize {
    let (left, panel) = (filled(ROWS * DEPTH / 2, float), filled(DEPTH / 2 * BLOCK, float));
    let left = Left { values: &left, stride: DEPTH / 2, rows: ROWS };
    let mut sums = Aligned::<f32>::zeros(ROWS * BLOCK);
    for _ in 0..2 * runs {
        multiply(kind, left, &panel, (&mut sums, BLOCK));
    }
    std::hint::black_box(&sums);
    ROWS
}

/// `runs` times numbers of sixteen bits; says how many rows.
#[cfg(target_arch = "x86_64")]
fn pairs(
    runs: u32,
    number: impl Fn(u32) -> u16 + Copy,
    multiply: impl Fn(bf16::Lines<'_>, &[u16], &mut [f32]),
) -> usize {
    let [left, panel] = [ROWS, BLOCK].map(|lines| filled(lines * DEPTH, number));
    let mut sums = Aligned::<f32>::zeros(ROWS * BLOCK);
    let left = bf16::Lines { values: &left, stride: ROWS, rows: ROWS };
    for _ in 0..runs {
        multiply(left, &panel, &mut sums);
    }
    std::hint::black_box(&sums);
    ROWS
}

/// The upper half of the bits.
#[cfg(target_arch = "x86_64")]
fn whole_number(number: u32) -> u16 {
    (number >> 16) as u16
}

/// As [`run`], of int8.
fn run_int8(kind: Int8Kind, runs: u32) -> f64 {
    let rows = match kind {
        #[cfg(target_arch = "x86_64")]
        Int8Kind::Amx => {
            let sides = [0, 1].map(|_| filled(DEPTH * BLOCK, |number| number.to_le_bytes()[3]));
            // SAFETY: the kind is that of a tier, which proves that the CPU has AMX int8.
            unsafe { tiles(Numbers::Int8, &sides[0], &sides[1], runs) };
            BLOCK
        }
        _ => {
            // Any bits are numbers in either form; those of sixteen bits are larger than they would be, to no other sum's harm.
            let bytes = int8::ROWS * DEPTH / LINE * kind.form().line_bytes();
            let lines = filled(bytes, |number| number.to_le_bytes()[3]);
            let panel = filled(DEPTH / LINE * STEP, |number| number.to_le_bytes()[3].cast_signed());
            let (begins, mut sums) = (Aligned::zeros(BLOCK), Aligned::zeros(int8::ROWS * BLOCK));
            for _ in 0..runs {
                let left = int8::Left { lines: &lines, stride: int8::ROWS, rows: int8::ROWS };
                int8::multiply(kind, left, &panel, &begins, &mut sums);
            }
            std::hint::black_box(&sums);
            int8::ROWS
        }
    };
    2.0 * f64::from(runs) * (rows * BLOCK * DEPTH) as f64
}

/// # Safety
/// The CPU has AMX for these numbers and the kernel permits it.
#[cfg(target_arch = "x86_64")]
unsafe fn tiles(numbers: Numbers, left: &[u8], panel: &[u8], runs: u32) {
    // SAFETY: the caller says that there are tiles of these numbers, and either side is whole steps of two tiles.
    unsafe {
        let _tiles = Tiles::configure();
        for _ in 0..runs {
            repeat(numbers, left, panel);
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
            for rate in [peak(tier, Duration::from_micros(1)), peak_int8(tier, Duration::from_micros(1))] {
                assert!(rate.is_finite() && rate > 0.0, "{}: {rate}", tier.name());
            }
        }
    }
}

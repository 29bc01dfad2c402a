//! How near the kernels beside the plain products are to what bounds them, on one thread, per tier.
//!
//! `cargo run -p kernels --example parts [tier]`; some seconds. Attention is bounded by its multiply-adds: the share is of
//! the rate of the tier's instructions on operands in the L1 cache. A norm is bounded by what it reads and writes: the
//! share is of a copy of as many bytes in the same cache. A GELU is done between the multiply-adds of a product: the time
//! that it adds to it is told, for each value, and the share of the peak that the product keeps.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernels::{Activations, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};

const HEADS: usize = 12;
const WIDTH: usize = 32;
const HIDDEN: usize = HEADS * WIDTH;
const BETWEEN: usize = 4 * HIDDEN;
/// Tokens of a pass.
const TOKENS: usize = 512;
const TIME_PER_FIGURE: Duration = Duration::from_millis(200);

fn main() {
    let name = std::env::args().nth(1);
    let tiers = name.map_or_else(Tier::available, |name| match Tier::force(&name) {
        Ok(tier) => vec![tier],
        Err(error) => panic!("{error}"),
    });
    for tier in tiers {
        let peak = kernels::peak(tier, TIME_PER_FIGURE);
        println!("{}, peak {:.0} Gflop/s", tier.name(), peak / 1e9);
        for length in [16, 64, 128, 512] {
            report_attention(tier, length, peak);
        }
        report_norm(tier);
        report_gelu(tier, peak);
    }
}

fn report_attention(tier: Tier, length: usize, peak: f64) {
    let lengths = vec![length; TOKENS / length];
    let qkv = activations(tier, 3 * HIDDEN);
    let mut out = Activations::new(tier, TOKENS, HIDDEN);
    let mut scratch = Scratch::new(tier, length, WIDTH);
    let heads = Heads::new(HEADS, WIDTH);
    let seconds = median_seconds(|| attention(black_box(&qkv), &lengths, heads, &mut out, &mut scratch));
    let operations = 4.0 * (TOKENS * length * HIDDEN) as f64;
    println!(
        "  attention, texts of {length:3} tokens  {:7.1} µs  {:6.1} Gflop/s, {:2.0} % of the peak",
        1e6 * seconds,
        operations / seconds / 1e9,
        100.0 * operations / seconds / peak
    );
}

fn report_norm(tier: Tier) {
    let norm = LayerNorm::new(&[1.0; HIDDEN], &[0.0; HIDDEN], 1e-12);
    let mut rows = values(TOKENS * HIDDEN);
    let mut to = Activations::new(tier, TOKENS, HIDDEN);
    let mut scratch = Scratch::new(tier, 1, WIDTH);
    let seconds = median_seconds(|| norm.apply(black_box(&mut rows), &mut to, &mut scratch));
    // Rows are read and written, and written once more in the type of the tier.
    let written = if tier.rounds_to_bfloat16() { 2 } else { 4 };
    let bytes = (TOKENS * HIDDEN * (4 + 4 + written)) as f64;
    let copied = copied_bytes_per_second();
    println!(
        "  layer norm, {TOKENS} rows of {HIDDEN}       {:7.1} µs  {:6.1} GB/s, {:2.0} % of a copy ({:.0} GB/s)",
        1e6 * seconds,
        bytes / seconds / 1e9,
        100.0 * bytes / seconds / copied,
        copied / 1e9
    );
}

/// Bytes read and written by a copy of the size of a pass's rows.
fn copied_bytes_per_second() -> f64 {
    let from = values(TOKENS * HIDDEN);
    let mut to = from.clone();
    let seconds = median_seconds(|| to.copy_from_slice(black_box(&from)));
    2.0 * size_of_val(&from[..]) as f64 / seconds
}

fn report_gelu(tier: Tier, peak: f64) {
    let linear = PackedLinear::new(tier, &values(BETWEEN * HIDDEN), HIDDEN, &values(BETWEEN));
    let input = activations(tier, HIDDEN);
    let mut to = Activations::new(tier, TOKENS, BETWEEN);
    let mut scratch = Scratch::new(tier, 1, WIDTH);
    let plain =
        median_seconds(|| linear.apply(black_box(&input), Output::Activations(&mut to), &mut scratch));
    let with = median_seconds(|| linear.apply(black_box(&input), Output::Gelu(&mut to), &mut scratch));
    let share = |seconds: f64| 100.0 * 2.0 * (TOKENS * BETWEEN * HIDDEN) as f64 / seconds / peak;
    println!(
        "  GELU of {TOKENS} rows of {BETWEEN}           {:7.1} µs  {:6.3} ns a value added; the product {:2.0} % of the peak, \
         {:2.0} % without",
        1e6 * (with - plain),
        1e9 * (with - plain) / (TOKENS * BETWEEN) as f64,
        share(with),
        share(plain)
    );
}

/// The median of the runs in some time.
fn median_seconds(mut run: impl FnMut()) -> f64 {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < TIME_PER_FIGURE {
        let before = Instant::now();
        run();
        times.push(before.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn activations(tier: Tier, width: usize) -> Activations {
    let mut activations = Activations::new(tier, TOKENS, width);
    activations.fill(&values(TOKENS * width), width);
    activations
}

/// Small numbers without a pattern: a CPU slows down for what flips many bits.
fn values(count: usize) -> Vec<f32> {
    let next = |seed: &u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let numbers = std::iter::successors(Some(1), next).skip(1);
    numbers.take(count).map(|number| (number >> 8) as f32 / 1.6e8 - 0.05).collect()
}

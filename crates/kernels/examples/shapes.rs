//! How fast each product is: GFLOP/s per shape, number of rows and number of threads, and the share of the rate that
//! tiles (or, without AMX, multiply-adds) reach on operands in the L1 cache in the same run.
//!
//! `cargo run -p kernels --example shapes [tier]`; about half a minute. Two threads work on rows of their own with the
//! same weights, as an engine does.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use kernels::{Activations, Output, PackedLinear, Scratch, Tier};

/// (outputs, inputs): queries, keys and values; their output; up; down.
const SHAPES: [(usize, usize); 4] = [(1152, 384), (384, 384), (1536, 384), (384, 1536)];
const ROWS: [usize; 5] = [1, 8, 32, 128, 512];
const TIME_PER_FIGURE: Duration = Duration::from_millis(60);

fn main() {
    let name = std::env::args().nth(1);
    let tier = name.map_or_else(Tier::detect, |name| match Tier::force(&name) {
        Ok(tier) => tier,
        Err(error) => panic!("{error}"),
    });
    for threads in [1, 2] {
        let peak = peak_of_threads(tier, threads);
        println!("{} on {threads} thread(s), peak {peak:.0} GFLOP/s (operands in the L1 cache)", tier.name());
        for kind in [Kind::Plain, Kind::Gelu] {
            println!("{kind:?}: rows {ROWS:?}, GFLOP/s (share of the peak)");
            for shape in SHAPES {
                let rates = ROWS.map(|rows| rate(tier, shape, rows, threads, kind));
                let cells = rates.map(|rate| format!("{rate:6.0} ({:3.0} %)", 100.0 * rate / peak));
                println!("  N{:<5} K{:<5} {}", shape.0, shape.1, cells.join("  "));
            }
        }
    }
}

/// GFLOP/s of all threads together.
fn peak_of_threads(tier: Tier, threads: usize) -> f64 {
    let peak = || kernels::peak(tier, TIME_PER_FIGURE) / 1e9;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(peak)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic is reported")).sum()
    })
}

/// What is done with the sums.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    Gelu,
}

/// GFLOP/s of all threads together: the median of the stretches of `TIME_PER_FIGURE / 6`.
fn rate(tier: Tier, (outputs, inputs): (usize, usize), rows: usize, threads: usize, kind: Kind) -> f64 {
    let linear = PackedLinear::new(tier, &values(outputs * inputs), inputs, &values(outputs));
    let barrier = Barrier::new(threads);
    let per_thread = || {
        let mut input = Activations::new(tier, rows, inputs);
        input.fill(&values(rows * inputs), inputs);
        let mut output = Activations::new(tier, rows, outputs);
        let mut scratch = Scratch::new(tier, 1, 32);
        barrier.wait();
        let mut rates: Vec<f64> = (0..6)
            .map(|_| {
                let (start, mut runs) = (Instant::now(), 0);
                while start.elapsed() < TIME_PER_FIGURE / 6 {
                    let to = match kind {
                        Kind::Plain => Output::Activations(&mut output),
                        Kind::Gelu => Output::Gelu(&mut output),
                    };
                    linear.apply(black_box(&input), to, &mut scratch);
                    runs += 1;
                }
                2.0 * (runs * rows * inputs * outputs) as f64 / start.elapsed().as_secs_f64() / 1e9
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(per_thread)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic is reported")).sum()
    })
}

/// Some numbers in [-0.5, 0.5).
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 37 % 101) as f32 / 101.0 - 0.5).collect()
}

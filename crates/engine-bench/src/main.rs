//! How fast the engine is on real texts, as a table or as JSON; with peers beside it, in turns on the same texts.
//!
//! # Goals
//! - Figures that can be believed: all contestants take turns in one run, and the machine, its load, the peak of its
//!   arithmetic and the spread of the rounds stand beside the figures.
//! - Peers at their best: sorted texts, the fastest batch size and settings found for each; ours in arrival order too.
//! - A wrong set-up shows: the vectors of every contestant are compared with our float32.
//!
//! # Non-goals
//! - Tokenizing is not timed, ours or a peer's: all are given the same token ids.
//! - HTTP and queues: `loadtest` measures those.
//!
//! ```text
//!  texts ─▶ token ids ─▶ ours (engine × way × threads) ─────┐ turns: A B C, A B C, …   report: table, JSON
//!                   └──▶ peers (a Python process each) ─────┘──▶ seconds, vectors ───▶ work, peak: share of the peak
//!            └──▶ sweep: lengths, batch sizes ─▶ plots (SVG)
//!  micro: each kernel alone ─▶ its share of what the machine could do
//! ```

mod args;
mod random_model;
mod texts;

mod contestant;
mod ours;
mod way;
mod peers;
mod turns;

mod sweep;
mod micro;

mod timing;
mod peak;
mod work;

mod figures;
mod memory;
mod machine;
mod report;
mod run;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use args::{Args, Part};
use clap::Parser;

fn main() -> ExitCode {
    let Args { part, engine } = Args::parse();
    let report = match (part, engine) {
        (Some(Part::Kernels(args)), _) => micro::run(&args),
        (None, Some(args)) => run::run(&args),
        (None, None) => Err(anyhow!("`--model` is missing")),
    };
    match report {
        Ok(text) => {
            // Nobody reads any more: the exit code still tells.
            writeln!(io::stdout(), "{text}").ok();
            ExitCode::SUCCESS
        }
        Err(error) => {
            writeln!(io::stderr(), "engine-bench: {error:#}").ok();
            ExitCode::from(2)
        }
    }
}

/// A line for who waits; standard output is for the report.
fn progress(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

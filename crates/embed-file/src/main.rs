//! A file of texts through a running embedding server: one text a line in, one vector a line out.
//!
//! # Goals
//! - Any number of texts in bounded memory; the order of the output is the order of the input.
//! - A text that fails costs its own row and nothing else; a server that restarts costs a wait.
//! - An interrupted run leaves no file that looks whole.
//!
//! # Non-goals
//! - Computing anything: the vectors are the server's.
//! - An endless trickle of texts: a request leaves when it is full or the input ends.
//!
//! ```text
//!  thread             one task, a bounded window of requests                 thread
//! ┌───────┐ chunks  ┌───────────────────────────────────────────┐  rows  ┌────────┐
//! │ input │ ──────▶ │ pipeline ─▶ courier ─▶ patience ─▶ client │ ─────▶ │ sink   │
//! │ chunk │         │    └──▶ progress                          │        │ npy    │
//! └───────┘         └───────────────────────────────────────────┘        │ jsonl  │
//!                                                                        └────────┘
//! ```

mod args;
mod input;

mod chunk;
mod pipeline;
mod progress;

mod courier;
mod patience;

mod client;

mod sink;

mod jsonl;
mod npy;

use std::process::ExitCode;

use clap::Parser;

use crate::pipeline::Ending;

fn main() -> ExitCode {
    let config = match args::Args::parse().into_config() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.into()),
    };
    match runtime.block_on(pipeline::run(config)) {
        Ok(Ending::AllEmbedded) => ExitCode::SUCCESS,
        Ok(Ending::SomeFailed) => ExitCode::from(1),
        Ok(Ending::Interrupted(signal)) => ExitCode::from(signal.exit_code()),
        Err(error) => refuse(&error),
    }
}

/// The run could not start, or could not go on.
fn refuse(error: &anyhow::Error) -> ExitCode {
    progress::say(&format!("embed-file: {error:#}"));
    ExitCode::from(2)
}

//! Load on a running embedding server: latencies and texts a second, as a table or as JSON.
//!
//! # Goals
//! - Numbers that can be believed: what the load was, on which machine, and what went wrong stand beside them.
//! - Another server gets the same load in turns with ours.
//! - A timeout counts as the time it took; no slow answer is left out.
//!
//! # Non-goals
//! - An open loop: each client sends when it has its answer, so a slow server slows the load down as well.
//! - A separate machine: client and server share the cores, and the report says so.
//!
//! ```text
//!  texts ─▶ workload ─▶ client × N ─▶ (server)        memory: VmRSS of the server, each second
//!              ▲            │
//!              └── drive ◀──┘ record ─▶ report        machine: what it ran on
//! ```

mod args;
mod texts;

mod workload;

mod drive;

mod api;
mod client;

mod record;

mod machine;
mod memory;

mod report;
mod run;
mod versus;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::run::Ending;

fn main() -> ExitCode {
    let config = match args::Args::parse().into_config() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.into()),
    };
    match runtime.block_on(run::run(config)) {
        Ok(Ending::Reported(report)) => {
            // Nobody reads any more: the exit code still tells.
            writeln!(io::stdout(), "{}", report.text).ok();
            ExitCode::from(u8::from(report.errors > 0))
        }
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => refuse(&error),
    }
}

/// The run could not start.
fn refuse(error: &anyhow::Error) -> ExitCode {
    writeln!(io::stderr(), "loadtest: {error:#}").ok();
    ExitCode::from(2)
}

//! The cache beside what somebody else would use, on the same keys, in turns.
//!
//! # Goals
//! - Ratios that can be believed: the same clients, keys and vectors for all, every vector checked, turns, one report.
//! - It brings its peers: they are installed where that is allowed, started over new directories, and ended.
//! - Numbers an operator decides by: keys a second, latencies, memory, disk, restarts, hit ratios at equal bytes.
//!
//! # Non-goals
//! - An open loop: a slow engine slows the load down as well; `loadtest` says the same of itself.
//! - A separate machine: clients and engines share the cores, and the report says so.
//!
//! ```text
//!  run ─▶ install ─▶ footprint: fill ─▶ turns ─▶ footprint: restarts ─▶ bounded ─▶ report ─▶ targets
//!                            │            │                               │
//!                            └─ server ───┴── drive ── client × N ────────┘
//!                               engine        draws    keys
//!                               process       record
//!  http: bare, embedding-single ×2, cache-shard, redis ─▶ asker × N ─▶ report
//!  shards: ml-base, cache-shard ×4, embedding-single ×2 ─▶ load, second by second ─▶ report
//!  simulate: traces ─▶ contestants ─▶ report
//! ```

mod args;

mod draws;
mod keys;

mod engine;
mod install;
mod process;
mod server;
mod service;

mod client;
mod drive;
mod record;

mod bounded;
mod footprint;
mod turns;

mod http;
mod shards;
mod simulate;

mod machine;
mod progress;

mod report;
mod run;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Config, Part};

/// How a run ended.
enum Ending {
    /// Measured to its end.
    Reported {
        /// The report, ready to print.
        text: String,
        /// A vector was not that of its key.
        is_wrong: bool,
    },
    /// Somebody stopped it; half a measurement is not reported.
    Interrupted,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.into()),
    };
    match runtime.block_on(run_until_stopped(args)) {
        Ok(Ending::Reported { text, is_wrong }) => {
            // Nobody reads any more: the exit code still tells.
            writeln!(io::stdout(), "{text}").ok();
            ExitCode::from(u8::from(is_wrong))
        }
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => refuse(&error),
    }
}

/// Whoever stops it ends the engines with it: they are killed where the future that holds them is dropped.
async fn run_until_stopped(args: Args) -> Result<Ending> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ending = measure(args) => ending,
        _ = tokio::signal::ctrl_c() => Ok(Ending::Interrupted),
        _ = terminated.recv() => Ok(Ending::Interrupted),
    }
}

async fn measure(args: Args) -> Result<Ending> {
    match args.part {
        Some(Part::L1(config)) => {
            let simulated = tokio::task::spawn_blocking(move || simulate::run(&config)).await?;
            Ok(Ending::Reported { text: simulated?, is_wrong: false })
        }
        Some(Part::Shards(config)) => {
            let report = shards::measure(&config).await?;
            Ok(Ending::Reported { text: report.write(config.json)?, is_wrong: report.wrong > 0 })
        }
        Some(Part::Bare(args)) => http::bare::serve(args).await.map(|()| Ending::Interrupted),
        None => match args.store.into_config()? {
            Config::Store(config) => {
                let report = run::measure(&config).await?;
                Ok(Ending::Reported { text: report.write(config.json)?, is_wrong: report.wrong_vectors > 0 })
            }
            Config::Http(config) => {
                let http::Finished { text, wrong } = http::measure(&config).await?;
                Ok(Ending::Reported { text, is_wrong: wrong > 0 })
            }
        },
    }
}

/// There is nothing to report.
fn refuse(error: &anyhow::Error) -> ExitCode {
    writeln!(io::stderr(), "cache-bench: {error:#}").ok();
    ExitCode::from(2)
}

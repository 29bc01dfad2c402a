//! Automation of this workspace, started as `cargo xtask COMMAND`.
//!
//! Goals: one command starts everything, one runs every test, one checks every rule; each says what it does
//! and what to do when it fails. It compiles in seconds, so it stays light.
//!
//! Non-goals: real work. Texts are embedded by `embed-file`, load is made by `loadtest`, accuracy is
//! measured by `accuracy`, models are fetched by `ml-base fetch`; xtask builds and starts those binaries.
//!
//! ```text
//! up ──▶ workspace (cargo build) ──▶ model (ml-base fetch) ──▶ supervisor ──▶ cache-shard, ml-base ×N,
//!                                                                  │          haproxy, embedding-single
//!                                                                  │ each start, death, restart
//!                                                                  ▼
//! down, status, embed, cache, bench ◀────────────────────── state (.sutra/run/state.json)
//! accuracy ──▶ workspace, model ──▶ `accuracy`, which starts ml-base itself
//! test ──▶ haproxy, workspace, model, cargo nextest          ci ──▶ fmt, clippy, doc, deny, tidy
//! sanitize ──▶ cargo test of kernels on nightly               prove ──▶ two tests of cache-shard, at length
//! emulate ──▶ cargo test of kernels in Bochs
//! ```

mod cli;
mod console;

mod accuracy;
mod bench;
mod cache;
mod ci;
mod down;
mod embed;
mod emulate;
mod prove;
mod sanitize;
mod status;
mod test;
mod tidy;
mod up;

mod haproxy;
mod http;
mod model;
mod process;
mod signals;
mod socket;
mod state;
mod supervisor;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use cli::{Bench, Cli, Command};
use workspace::Workspace;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            console::warn(format!("error: {error:#}"));
            if error.is::<up::Refused>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find();
    match command {
        Command::Up(args) => up::run(&workspace, &args),
        Command::Supervise(args) => up::run_supervise(&workspace, &args),
        Command::Down => down::run(&workspace),
        Command::Status(args) => status::run(&workspace, &args),
        Command::Embed(args) => embed::run(&workspace, args.args),
        Command::Cache(args) => cache::run(&workspace, args.args),
        Command::Bench(Bench::Serve(args)) => bench::run_serve(&workspace, args.args),
        Command::Bench(Bench::Engine(args)) => bench::run_engine(&workspace, args.args),
        Command::Bench(Bench::Cache(args)) => bench::run_cache(&workspace, args.args),
        Command::Bench(Bench::Shards(args)) => bench::run_shards(&workspace, args.args),
        Command::Bench(Bench::Kernels(args)) => bench::run_kernels(&workspace, args.args),
        Command::Bench(Bench::L1(args)) => bench::run_l1(&workspace, args.args),
        Command::Accuracy(args) => accuracy::run(&workspace, &args.args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Prove(args) => prove::run(&workspace, &args),
        Command::Sanitize => sanitize::run(&workspace),
        Command::Emulate(args) => emulate::run(&workspace, &args),
        Command::Ci => ci::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
    }
}

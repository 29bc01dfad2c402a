//! Looks into running cache shards, for people and scripts.
//!
//! ```text
//!  args ─▶ shards (a client for each) ─┬─▶ stats     what each holds and has counted
//!                                      ├─▶ records   get, delete, clear, similar: asked of every shard
//!                                      └─▶ export    all records of a namespace, as JSON lines
//! ```
//!
//! # Goals
//! - What is asked is asked of every shard, so that nobody has to know which one owns a key.
//! - An interrupted export leaves no file that looks whole.
//!
//! # Non-goals
//! - Computing keys or vectors of texts: that is embedding-single's (`POST /cache/similar`).

mod args;

mod shards;

mod export;
mod records;
mod stats;

mod shown;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(args)));
    ended.unwrap_or_else(|error| {
        shown::say(&format!("cache-admin: {error:#}"));
        ExitCode::from(2)
    })
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = args.form();
    let mut shards = shards::connect(&args.urls, &args.namespace).await?;
    match args.command {
        Command::Stats => stats::run(&mut shards, form).await,
        Command::Get { key } => records::get(&mut shards, &key, form).await,
        Command::Delete { keys } => records::delete(&mut shards, &keys, form).await,
        Command::Clear => records::clear(&mut shards, form).await,
        Command::Similar { key, count } => records::similar(&mut shards, &key, count, form).await,
        Command::Export { out } => export::run(&mut shards, &out).await,
    }
}

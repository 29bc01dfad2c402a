//! The cache-shard program: reads its arguments and calls [`cache_shard::run`].

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use cache_shard::{
    Config,
    args::Args,
    config::{OLDEST_FIRST, REPLACED},
    run,
};
use clap::Parser;
use service::{config::warn_of_replaced, server, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long threads that still wait for a disk may hold up the end of the process.
const EXIT_DELAY_MAX: Duration = Duration::from_secs(1);
/// As clap exits when an argument is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init(args.log_format);
    serve(args).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let print_config = args.print_config;
    let names_policy = args.eviction_policy.is_some();
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if print_config {
        writeln!(std::io::stdout(), "{:#}", serde_json::to_value(&config)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    warn_of_replaced(REPLACED);
    if names_policy {
        tracing::warn!("--eviction-policy: {OLDEST_FIRST}");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = shutdown::on_signal().context("listen for signals")?;
        let listener = server::bind(config.listen).await?;
        run(config, listener, shutdown).await
    });
    runtime.shutdown_timeout(EXIT_DELAY_MAX);
    result.map(|()| ExitCode::SUCCESS)
}

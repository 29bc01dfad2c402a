//! The cache-shard program: reads its arguments and calls [`cache_shard::run`].

use std::{io::Write, process::ExitCode};

use cache_shard::{Config, args::Args, config::REPLACED, run};
use clap::Parser;
use service::{
    config::warn_of_replaced,
    program::{self, EXIT_USAGE},
    telemetry,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    program::run(config.listen, |listener, shutdown| run(config, listener, shutdown))?;
    Ok(ExitCode::SUCCESS)
}

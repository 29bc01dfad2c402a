//! The ml-base program: reads its arguments and calls [`ml_base::run`], or fetches a model.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use ml_base::{
    Config,
    args::{Cli, Command, FetchArgs, ServeArgs},
    config::REPLACED,
    model::{self, TerminalProgress},
    run,
};
use service::{config::warn_of_replaced, server, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long threads that still compute may hold up the end of the process.
const EXIT_DELAY_MAX: Duration = Duration::from_secs(1);
/// As clap exits when an argument is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.serve.log_format);
    let result = match cli.command {
        Some(Command::Fetch(args)) => fetch(args),
        None => serve(cli.serve),
    };
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn fetch(args: FetchArgs) -> anyhow::Result<ExitCode> {
    let sources = args.sources.into_sources()?;
    let files = model::resolve(&args.model_id.parse()?, &sources, &TerminalProgress::new())?;
    writeln!(std::io::stdout(), "{}", files.directory.display())?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let print_config = args.print_config;
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if print_config {
        writeln!(std::io::stdout(), "{:#}", config.to_json())?;
        return Ok(ExitCode::SUCCESS);
    }
    warn_of_replaced(REPLACED);
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

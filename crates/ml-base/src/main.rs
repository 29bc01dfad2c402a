//! The ml-base program: reads its arguments and calls [`ml_base::run`], or fetches a model.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use ml_base::{
    Config,
    args::{Cli, Command, FetchArgs, ModelsArgs, ServeArgs},
    config::REPLACED,
    model::{self, Catalog, Listing, TerminalProgress},
    run,
};
use service::{
    config::warn_of_replaced,
    program::{self, EXIT_USAGE},
    telemetry,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.serve.log_format);
    let result = match cli.command {
        Some(Command::Fetch(args)) => fetch(args),
        Some(Command::Models(args)) => models(args),
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

fn models(args: ModelsArgs) -> anyhow::Result<ExitCode> {
    let (catalog, sources) = (Catalog::built_in(), args.sources.into_sources()?);
    let listing = Listing::new(&catalog, &sources.store);
    match args.json {
        true => writeln!(std::io::stdout(), "{:#}", serde_json::to_value(&listing)?)?,
        false => writeln!(std::io::stdout(), "{listing}")?,
    }
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
    program::run(config.listen, |listener, shutdown| run(config, listener, shutdown))?;
    Ok(ExitCode::SUCCESS)
}

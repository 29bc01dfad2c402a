//! The program: parse, check, bind, run.

use std::process::ExitCode;

use clap::error::ErrorKind;
use embedding_single::{
    args::{Args, Typed},
    config::Config,
};
use service::{server, shutdown, telemetry};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time for blocking work to end after the drain; it holds nothing that must be saved.
const LEFTOVERS_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);
/// Exit status of a wrong configuration, as clap's own for a wrong argument.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let typed = Typed::read();
    let print_config = typed.args.print_config;
    let config = match Config::try_from(typed.args.clone()) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if print_config {
        return print(&config);
    }
    telemetry::init(config.log_format);
    typed.warn();
    match Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let served = runtime.block_on(serve(config));
        runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
        served
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let listener = server::bind(config.address).await?;
    embedding_single::run(config, listener, shutdown).await
}

#[expect(clippy::print_stderr, reason = "the one place that speaks before logging works")]
fn refuse(error: &service::config::ConfigError) -> ExitCode {
    eprintln!("embedding-single: {error}");
    ExitCode::from(EXIT_CONFIG)
}

#[expect(clippy::print_stdout, reason = "what --print-config is for")]
fn print(config: &Config) -> ExitCode {
    match serde_json::to_string_pretty(config) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            <Args as clap::CommandFactory>::command().error(ErrorKind::Io, error).exit();
        }
    }
}

//! The program: parse, check, bind, run.

use std::process::ExitCode;

use clap::error::ErrorKind;
use embedding_single::{
    args::{Args, Typed},
    config::Config,
};
use service::{
    program::{self, EXIT_USAGE},
    telemetry,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    match program::run(config.address, |listener, shutdown| embedding_single::run(config, listener, shutdown))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place that speaks before logging works")]
fn refuse(error: &service::config::ConfigError) -> ExitCode {
    eprintln!("embedding-single: {error}");
    ExitCode::from(EXIT_USAGE)
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

//! How much a precision class or a shorter vector changes answers.
//!
//! # Goals
//! - Vectors come from the real service: an ml-base started here in the class asked for, or a server that runs already.
//! - Numbers an operator can decide by: cosines, neighbours that stay, and the loss on a retrieval task, for every width
//!   the model was trained for; with thresholds and an exit code for CI.
//!
//! # Non-goals
//! - Speed: that is what `loadtest` measures.
//! - A leaderboard: the task that ships is made to tell two ways of computing one model apart, not two models.
//!
//! ```text
//!  pairs ─▶ side (reference, candidate) ─▶ server ─▶ vectors of each width ─▶ compare ─▶ report
//!           │ a class: ml_base, started     │ grpc (ml-base): raw, finished here  │
//!           └ a URL                         └ http (embedding-single)             └ measure
//! ```

mod args;
mod pairs;
mod prompts;
mod progress;

mod ml_base;
mod side;

mod http;
mod grpc;
mod server;

mod measure;
mod compare;

mod report;
mod run;

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
        Ok(Ending::Reported { text, missed }) => {
            // Nobody reads any more: the exit code still tells.
            writeln!(io::stdout(), "{text}").ok();
            ExitCode::from(u8::from(missed))
        }
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => refuse(&error),
    }
}

/// There is nothing to report.
fn refuse(error: &anyhow::Error) -> ExitCode {
    writeln!(io::stderr(), "accuracy: {error:#}").ok();
    ExitCode::from(2)
}

//! `status`: what runs, how well, and whether it keeps what the plan promises.
//!
//! ```text
//! state.json ──▶ gather ─┬─▶ service    /health /info /metrics /cache/stats, one thread each   ─┐
//!                        ├─▶ balancer   HAProxy's stats socket                                  ├─▶ report ─┬─▶ tables
//!                        └─▶ usage      /proc, twice                                           ─┘           ├─▶ --json
//!                                                               --slo: objective ─▶ report                  └─▶ exit code
//! ```
//!
//! What does not answer is a row that says so, never an error; every wait has a bound.

mod gather;

mod service;

mod openmetrics;

mod histogram;

mod balancer;

mod usage;

mod model;

mod cache;

mod report;

mod objective;

mod tables;

mod shown;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::StatusArgs;
use crate::console;
use crate::state::{EMBEDDING_SINGLE, State};
use crate::up::api_key;
use crate::workspace::Workspace;
use gather::Seen;
use openmetrics::Metrics;
use report::Report;
use usage::Machine;

/// Bound of one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between the two looks that a rate is made of.
const WINDOW: Duration = Duration::from_millis(500);

/// Prints what runs; the code says whether all of it is well.
pub(crate) fn run(workspace: &Workspace, args: &StatusArgs) -> Result<ExitCode> {
    let report = match State::load_running(workspace)? {
        Some(state) => look(&state, args),
        None => Report::default(),
    };
    if args.json {
        console::say(serde_json::to_string(&report).context("encode the report")?);
    } else {
        console::say(tables::render(&report));
    }
    Ok(ExitCode::from(report.exit_code()))
}

fn look(state: &State, args: &StatusArgs) -> Report {
    let key = api_key();
    let seen = gather::look_at_all(state, key.as_ref().ok().and_then(Option::as_deref), WINDOW);
    let mut report = Report::new(state, Machine::read(), &seen);
    if args.slo {
        report.objectives = Some(objective::compare(&report, metrics_of_proxy(&seen)));
    }
    report.notes.extend(key.err().map(|error| format!("{error:#}")));
    report
}

fn metrics_of_proxy<'s>(seen: &'s [Seen<'_>]) -> Option<&'s Metrics> {
    seen.iter().find(|seen| seen.service.name == EMBEDDING_SINGLE)?.look.metrics.as_ref()
}

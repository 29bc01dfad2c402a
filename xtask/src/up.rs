//! `up`: from a fresh clone to a running grid.
//!
//! ```text
//! host ─▶ plan ─▶ refuse what cannot work ─▶ build ─▶ model ─▶ grid (supervise) ─▶ sample ─▶ announcement ─▶ watch ─▶ drain
//! --detach: … ─▶ model ─▶ `xtask supervise` in a session of its own ─▶ "ready" on its stdout ─▶ sample ─▶ announcement
//! ```

mod announcement;
mod detach;
mod grid;
mod host;
mod plan;
mod port;
mod sample;
mod services;

use std::fmt;
use std::iter;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{GridArgs, UpArgs};
use crate::console;
use crate::down;
use crate::model;
use crate::state::State;
use crate::workspace::Workspace;
pub(crate) use grid::health_word;
pub(crate) use plan::LIMITS;
use plan::Plan;
pub(crate) use sample::api_key;

/// `up` cannot begin, through no fault of its own: exit code 2.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Builds, fetches, starts, tries, supervises.
pub(crate) fn run(workspace: &Workspace, args: &UpArgs) -> Result<ExitCode> {
    let plan = Plan::of(&args.grid)?;
    refuse_second_grid(workspace)?;
    refuse_taken_ports(&plan)?;
    if let Some(note) = plan.note_on_replicas(&args.grid) {
        console::warn(note);
    }
    workspace.build_binaries()?;
    // All of them once, before replicas that are waited for would fetch them.
    for name in iter::once(plan.model.clone()).chain(plan.further_models()) {
        let directory = model::fetch(workspace, &name)?;
        console::warn(format!("model `{name}` is in {}", workspace.relative(&directory).display()));
    }
    if args.detach {
        detach::start(workspace, &args.grid)?;
        if let Err(error) = announce(workspace, &plan, Some("cargo xtask down")) {
            down::run(workspace)?;
            return Err(error);
        }
    } else {
        let ready = || announce(workspace, &plan, None);
        grid::supervise(workspace, &plan, ready)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `up --detach` leaves running: a session of its own, and `ready` on standard output once all is.
pub(crate) fn run_supervise(workspace: &Workspace, args: &GridArgs) -> Result<ExitCode> {
    rustix::process::setsid().context("leave the terminal's session")?;
    let ready = || {
        console::say(detach::READY);
        Ok(())
    };
    grid::supervise(workspace, &Plan::of(args)?, ready)?;
    Ok(ExitCode::SUCCESS)
}

/// Tries the services and says how to use them. `stop` names the command that stops them, where it is not Ctrl-C.
fn announce(workspace: &Workspace, plan: &Plan, stop: Option<&str>) -> Result<()> {
    let similarity = sample::try_out(plan.ports.embedding)?;
    console::say(announcement::text(workspace, plan, similarity, stop));
    Ok(())
}

fn refuse_second_grid(workspace: &Workspace) -> Result<()> {
    match State::load(workspace)? {
        None => Ok(()),
        Some(state) if state.supervisor.is_alive() => {
            let pid = state.supervisor.pid;
            let url = state.url().unwrap_or_default();
            let message =
                format!("the grid runs already (pid {pid}, {url}); stop it with `cargo xtask down`");
            Err(Refused(message).into())
        }
        Some(stale) => {
            console::warn("the last grid ended without cleaning up; removing what it left");
            down::end_leftovers(workspace, &stale)
        }
    }
}

fn refuse_taken_ports(plan: &Plan) -> Result<()> {
    for (service, port) in plan.ports() {
        if let Some(holder) = port::holder(port)? {
            let message = format!(
                "port {port} for {service} is taken by {holder}; choose others with `--ports-from P`"
            );
            return Err(Refused(message).into());
        }
    }
    Ok(())
}

//! `prove`: the proofs that a test run makes in short, at length.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::cli::ProveArgs;
use crate::console;
use crate::workspace::Workspace;

/// The tests of cache-shard that take their length from the environment.
const PROOFS: [&str; 2] =
    ["so_many_operations_with_faults_bring_no_wrong_vector", "what_was_acknowledged_survives_a_kill"];
/// The modules, of any crate, whose tests decide who goes on.
const INTERLEAVINGS: &str = "interleavings::";

/// Runs them one after the other, with their words on the terminal.
pub(crate) fn run(workspace: &Workspace, args: &ProveArgs) -> Result<ExitCode> {
    console::warn(format!(
        "prove: {} orders of turns for each test of them, then {} operations with faults (some ten minutes for ten million), \
         then {} kills",
        args.schedules, args.operations, args.kills
    ));
    for mut command in [interleavings(workspace, args), faults(workspace, args)] {
        if !command.status().context("start cargo")?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn interleavings(workspace: &Workspace, args: &ProveArgs) -> Command {
    let mut command = cargo_test(workspace, args, &["--lib"], &[INTERLEAVINGS]);
    command.env("SUTRA_PROOF_SCHEDULES", args.schedules.to_string());
    command
}

fn faults(workspace: &Workspace, args: &ProveArgs) -> Command {
    let mut command = cargo_test(workspace, args, &["--test", "shard"], &PROOFS);
    command
        .env("SUTRA_PROOF_OPERATIONS", args.operations.to_string())
        .env("SUTRA_PROOF_KILLS", args.kills.to_string());
    command
}

/// The whole workspace, whatever is chosen of it, so that nothing is compiled with other features.
fn cargo_test(workspace: &Workspace, args: &ProveArgs, targets: &[&str], tests: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--workspace"])
        .args(targets)
        .args(["--", "--nocapture", "--test-threads", "1"])
        .args(tests)
        .current_dir(workspace.root())
        .stdin(Stdio::null());
    if let Some(seed) = args.seed {
        command.env("SUTRA_PROOF_SEED", seed.to_string());
    }
    command
}

//! `prove`: the proofs of cache-shard that a test run makes in short, at length.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::cli::ProveArgs;
use crate::console;
use crate::workspace::Workspace;

/// The tests that take their length from the environment.
const PROOFS: [&str; 2] =
    ["so_many_operations_with_faults_bring_no_wrong_vector", "what_was_acknowledged_survives_a_kill"];

/// Runs them one after the other, with their words on the terminal.
pub(crate) fn run(workspace: &Workspace, args: &ProveArgs) -> Result<ExitCode> {
    console::warn(format!(
        "prove: {} operations with faults (some ten minutes for ten million), then {} kills",
        args.operations, args.kills
    ));
    let status = command(workspace, args).status().context("start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(workspace: &Workspace, args: &ProveArgs) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--workspace", "--test", "shard", "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .args(PROOFS)
        .current_dir(workspace.root())
        .env("SUTRA_PROOF_OPERATIONS", args.operations.to_string())
        .env("SUTRA_PROOF_KILLS", args.kills.to_string())
        .stdin(Stdio::null());
    if let Some(seed) = args.seed {
        command.env("SUTRA_PROOF_SEED", seed.to_string());
    }
    command
}

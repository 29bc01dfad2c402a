//! `prove`: the proofs that a test run makes in short, at length.

use std::io::{BufRead, BufReader};
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

/// The tests of the engine that compute the real model, with tile instructions in software where the CPU has none.
const TILES: &str = "golden::";

/// Runs them one after the other, with their words on the terminal.
pub(crate) fn run(workspace: &Workspace, args: &ProveArgs) -> Result<ExitCode> {
    console::warn(format!(
        "prove: {} orders of turns for each test of them, then {} operations with faults (some ten minutes for ten million), \
         then {} kills; then the model in tiles (some minutes on a CPU without AMX)",
        args.schedules, args.operations, args.kills
    ));
    for command in [interleavings(workspace, args), faults(workspace, args), tiles(workspace, args)] {
        if !passes(command)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs it, with what it says of proofs on the terminal.
fn passes(mut command: Command) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo")?;
    if let Some(output) = child.stdout.take() {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter(|line| says_something(line)).for_each(console::say);
    }
    Ok(child.wait().context("wait for cargo")?.success())
}

/// Most crates have no proof, and say so in three lines.
fn says_something(line: &str) -> bool {
    !line.is_empty() && line != "running 0 tests" && !line.starts_with("test result: ok. 0 passed;")
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

fn tiles(workspace: &Workspace, args: &ProveArgs) -> Command {
    let mut command = cargo_test(workspace, args, &["--test", "engine"], &[TILES]);
    command.env("SUTRA_PROOF_TILES", "1").env("SUTRA_REQUIRE_MODEL", "1");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_a_proof_is_shown() {
        let silent = [
            "",
            "running 0 tests",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 24 filtered out",
        ];
        assert!(!silent.into_iter().any(says_something));
        let said =
            ["running 2 tests", "test result: FAILED. 0 passed; 1 failed; 0 ignored", ".seed 7: Counts"];
        assert!(said.into_iter().all(says_something));
    }
}

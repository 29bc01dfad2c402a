//! `test`: every test, what was skipped and why, and one last line with the counts.
//!
//! ```text
//! HAProxy ─▶ build ─▶ model ─▶ doc tests, if there are any ─▶ cargo nextest (or cargo test) ─▶ skipped tests ─▶ counts
//! ```
//!
//! A test that needs HAProxy or the model and does not find it appends a line `test: reason` to the file that `SUTRA_SKIP_LOG` names and
//! returns. The runner counts it as passed; here it is counted as skipped.

mod counts;
mod install;
mod runner;
mod skip_log;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cli::TestArgs;
use crate::console;
use crate::model;
use crate::workspace::Workspace;
use counts::Counts;
use skip_log::SkipLog;

/// The model that tests use.
const TEST_MODEL: &str = "medium";
/// Names the directory of that model to tests.
const MODEL_DIR_VARIABLE: &str = "SUTRA_TEST_MODEL_DIR";
/// Makes a missing model an error instead of skipped tests.
const REQUIRE_MODEL_VARIABLE: &str = "SUTRA_REQUIRE_MODEL";

/// Runs every test, or those that `args.args` choose; the exit code is the runner's.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<ExitCode> {
    let workspace = &workspace.of_tests();
    install::provide_haproxy(args.no_install);
    workspace.build_binaries()?;
    let model_directory = find_model(workspace)?;
    let skip_log = SkipLog::create(workspace)?;
    let mut counts = Counts::default();
    let mut code = 0;
    for mut command in commands(workspace, &args.args)? {
        command.env(skip_log::VARIABLE, skip_log.path());
        if let Some(directory) = &model_directory {
            command.env(MODEL_DIR_VARIABLE, directory);
        }
        let outcome = runner::run(&mut command, io::stdout(), io::stderr())?;
        counts.add(&outcome.counts);
        code = if code == 0 { outcome.code } else { code };
    }
    conclude(workspace, &skip_log, counts, code)
}

fn conclude(workspace: &Workspace, skip_log: &SkipLog, mut counts: Counts, code: u8) -> Result<ExitCode> {
    let skipped = skip_log.lines()?;
    counts.note_skipped_themselves(skipped.len());
    counts.note_exit_code(code);
    if !skipped.is_empty() {
        let path = workspace.relative(skip_log.path()).display();
        console::say(format!("\nskipped tests and why (also in {path}):"));
        skipped.iter().for_each(|line| console::say(format!("  {line}")));
    }
    console::say(counts);
    Ok(ExitCode::from(code))
}

/// The model's directory: the caller's, or a fetched one; none where tests may do without.
fn find_model(workspace: &Workspace) -> Result<Option<OsString>> {
    if let Some(given) = env::var_os(MODEL_DIR_VARIABLE) {
        return Ok(Some(given));
    }
    match model::fetch(workspace, TEST_MODEL) {
        Ok(directory) => Ok(Some(directory.into_os_string())),
        Err(error) if is_set("CI") || is_set(REQUIRE_MODEL_VARIABLE) => {
            Err(error.context(format!("tests need the model (CI or {REQUIRE_MODEL_VARIABLE} is set)")))
        }
        Err(error) => {
            console::warn(format!("{error:#}; tests that need the model will skip themselves"));
            Ok(None)
        }
    }
}

/// Whether a variable is on: set, and neither empty nor `0` nor `false`.
fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
}

/// The runs of this workspace's tests, the one with most tests last so that its summary closes the output.
fn commands(workspace: &Workspace, args: &[OsString]) -> Result<Vec<Command>> {
    let mut all = Vec::new();
    if has_nextest(workspace) {
        // nextest runs no doc tests. A choice of tests names no doc test, so then they are left out.
        if args.is_empty() && runner::has_doc_tests(&workspace.root().join("crates"))? {
            all.push(cargo(workspace, &["test", "--doc", "--workspace", "--no-fail-fast"], &[]));
        }
        let whole = ["nextest", "run", "--workspace", "--no-fail-fast"];
        let part = ["nextest", "run", "--no-fail-fast"];
        all.push(cargo(workspace, if chooses_package(args) { &part } else { &whole }, args));
    } else {
        let whole = ["test", "--workspace", "--no-fail-fast"];
        let part = ["test", "--no-fail-fast"];
        all.push(cargo(workspace, if chooses_package(args) { &part } else { &whole }, args));
    }
    Ok(all)
}

fn cargo(workspace: &Workspace, words: &[&str], args: &[OsString]) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(words).args(args);
    if io::stderr().is_terminal() {
        // The runner sees a pipe; colours are for the terminal behind it.
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
}

fn has_nextest(workspace: &Workspace) -> bool {
    workspace.cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn chooses_package(args: &[OsString]) -> bool {
    let is_package = |arg: &OsString| {
        arg.to_str().is_some_and(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
    };
    args.iter().any(is_package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_of_the_caller_replaces_the_whole_workspace() {
        assert!(chooses_package(&["-p".into(), "engine".into()]));
        assert!(chooses_package(&["--package=engine".into()]));
        assert!(!chooses_package(&["queue".into(), "--no-capture".into()]));
    }
}

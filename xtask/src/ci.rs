//! `ci`: every rule that can be checked without running a test.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::console;
use crate::tidy;
use crate::workspace::Workspace;

/// What cargo-deny says where its advisory database cannot be reached.
const DATABASE_UNREACHABLE: [&str; 3] =
    ["failed to fetch advisory database", "failed to clone", "unable to load advisory database"];

/// How a step ended, where it did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped(String),
}

struct Step {
    name: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

const STEPS: [Step; 7] = [
    Step { name: "fmt", run: fmt },
    Step { name: "tidy", run: tidy_step },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy, onnx", run: clippy_onnx },
    Step { name: "doc", run: doc },
    Step { name: "deny", run: deny },
    Step { name: "advisories", run: advisories },
];

/// Runs the steps one by one up to the first that fails, then prints how long each took.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut rows = vec![["STEP", "RESULT", "TIME"].map(str::to_owned).to_vec()];
    let mut failure = None;
    for step in &STEPS {
        console::warn(format!("ci: {}", step.name));
        let start = Instant::now();
        let outcome = (step.run)(workspace);
        rows.push(row(step.name, &outcome, start.elapsed()));
        if let Err(error) = outcome {
            failure = Some(error.context(step.name));
            break;
        }
    }
    console::say(console::table(&rows));
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn row(name: &str, outcome: &Result<Outcome>, took: Duration) -> Vec<String> {
    let result = match outcome {
        Ok(Outcome::Passed) => "passed".to_owned(),
        Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
        Err(_) => "failed".to_owned(),
    };
    vec![name.to_owned(), result, format!("{:.1} s", took.as_secs_f64())]
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    pass(workspace.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    pass(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The code that only the feature `onnx` compiles.
fn clippy_onnx(workspace: &Workspace) -> Result<Outcome> {
    let packages = ["clippy", "-p", "engine", "-p", "ml-base", "--features", "ml-base/onnx", "--all-targets"];
    pass(workspace.cargo().args(packages).args(["--", "-D", "warnings"]))
}

fn doc(workspace: &Workspace) -> Result<Outcome> {
    pass(workspace.cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn tidy_step(workspace: &Workspace) -> Result<Outcome> {
    tidy::check(workspace).map(|()| Outcome::Passed)
}

fn deny(workspace: &Workspace) -> Result<Outcome> {
    if !has_deny(workspace) {
        return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
    }
    pass(&mut cargo_deny(workspace, &["bans", "licenses", "sources"]))
}

fn advisories(workspace: &Workspace) -> Result<Outcome> {
    if !has_deny(workspace) {
        return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
    }
    let output =
        cargo_deny(workspace, &["advisories"]).stdin(Stdio::null()).output().context("start cargo-deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(Outcome::Passed)
    } else if DATABASE_UNREACHABLE.iter().any(|sign| said.contains(sign)) {
        Ok(Outcome::Skipped("the advisory database cannot be reached".to_owned()))
    } else {
        console::warn(said.trim_end());
        bail!("cargo deny check advisories failed ({})", output.status)
    }
}

/// cargo-deny, which finds `.deny.toml` by itself.
fn cargo_deny(workspace: &Workspace, checks: &[&str]) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["deny", "--workspace", "check", "--hide-inclusion-graph"]).args(checks);
    cargo
}

fn has_deny(workspace: &Workspace) -> bool {
    workspace.cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn pass(command: &mut Command) -> Result<Outcome> {
    let name = format!("cargo {}", words(command));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(Outcome::Passed)
}

fn words(command: &Command) -> String {
    command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_command_is_named_as_the_user_would_type_it() {
        let error = pass(Command::new("/bin/false").arg("doc")).unwrap_err();
        assert!(error.to_string().starts_with("`cargo doc` failed"), "{error}");
        assert_eq!(pass(&mut Command::new("/bin/true")).unwrap(), Outcome::Passed);
    }

    #[test]
    fn row_says_why_a_step_was_skipped() {
        let outcome = Ok(Outcome::Skipped("not installed".to_owned()));
        assert_eq!(
            row("deny", &outcome, Duration::from_millis(1520)),
            ["deny", "skipped: not installed", "1.5 s"]
        );
    }
}

//! `emulate`: the tests of kernels on a CPU that this machine has not.
//!
//! ```text
//!  cargo test --no-run, linked statically ─▶ initramfs: a Linux with nothing but the test program
//!       ─▶ image that Bochs boots ─▶ what the tests say, line by line, and with what code the program ended
//! ```

mod image;
mod machine;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli::EmulateArgs;
use crate::console;
use crate::workspace::Workspace;
use machine::Machine;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Boots one machine for each test program of kernels, and ends with 1 at the first that fails.
pub(crate) fn run(workspace: &Workspace, args: &EmulateArgs) -> Result<ExitCode> {
    let folder = workspace.root().join("target/emulate");
    let machine = Machine::find(args, &folder)?;
    console::warn("emulate: building the tests of kernels, linked statically (some minutes the first time)");
    for program in programs(workspace, &folder)? {
        let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        console::warn(format!("emulate: booting {} for {name} (some ten seconds)", args.cpu.name()));
        let code = machine.boot(&program)?;
        if code != 0 {
            console::warn(format!("emulate: {name} ended with {code}"));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the test programs of kernels.
fn programs(workspace: &Workspace, folder: &Path) -> Result<Vec<PathBuf>> {
    let output = workspace
        .cargo()
        .args(["test", "--release", "--package", "kernels", "--no-run", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("the tests of kernels cannot be built ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// The test program that a message of cargo is about.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    // Examples are built as well, and test nothing.
    let is_test = message["profile"]["test"] == true;
    message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_test_are_booted() {
        let message =
            |test: bool| format!(r#"{{"executable":"/deps/kernels-1","profile":{{"test":{test}}}}}"#);
        assert_eq!(executable(&message(true)), Some(PathBuf::from("/deps/kernels-1")));
        assert_eq!(executable(&message(false)), None);
        assert_eq!(executable(r#"{"executable":null,"profile":{"test":true}}"#), None);
        assert_eq!(executable("Compiling kernels"), None);
    }
}

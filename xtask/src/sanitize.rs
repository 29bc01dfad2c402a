//! `sanitize`: the tests of the one crate with unsafe code, under AddressSanitizer.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::console;
use crate::workspace::Workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs them with nightly, whose compiler alone has the sanitizer, in a target folder of their own.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    console::warn("sanitize: building the tests of kernels (a minute the first time)");
    let status = command(workspace).status().context("start rustup, which finds nightly")?;
    if !status.success() {
        bail!("the tests of kernels failed under AddressSanitizer, or nightly is not installed ({status})");
    }
    Ok(ExitCode::SUCCESS)
}

fn command(workspace: &Workspace) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "test", "--package", "kernels", "--target", TARGET])
        .args(["--target-dir", "target/sanitize"])
        .current_dir(workspace.root())
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Cargo sets these for what it runs, and they name the other toolchain.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .stdin(Stdio::null());
    command
}

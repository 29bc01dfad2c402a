//! The binary on the real cache-shard, seen from outside: what it reports, exits with and leaves behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod store;

use std::{
    path::Path,
    process::{Output, Stdio},
};

use tokio::process::Command;

/// The program over `directory`, with as few vectors as it can do with.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-bench"));
    command.args(arguments).arg("--directory").arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end.
async fn run(directory: &Path, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_cache-bench")).with_file_name("cache-shard");
    assert!(program.exists(), "{} is not built: run `cargo xtask test`", program.display());
    command(directory, arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

//! The binary against a fake server, seen from outside: what it sends, reports and exits with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod server;

mod peers;
mod reports;
mod workloads;

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// How a run ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// The report of a run with `--json`.
    fn report(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// Runs a short load test with the texts `text 0` to `text 9`.
async fn load(url: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..10).map(|index| format!("text {index}")).collect();
    std::fs::write(folder.path().join("texts.txt"), texts.join("\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args([
            "--file",
            "texts.txt",
            "--url",
            url,
            "--clients",
            "3",
            "--seconds",
            "0.3",
            "--warm-up-seconds",
            "0",
        ])
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("API_KEY")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

//! The real program, beside this process.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::interval,
};

use crate::door::{INTERVAL, http};

/// A running program; killed with the value.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
}

/// Where it lies.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cache-shard");

/// The program over `directory`, to be changed before it is started. `words` are those before its flags.
pub fn command(words: Vec<OsString>, directory: &Path) -> Command {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--port", "0", "--log-format", "json", "--sync-interval", "0.01", "--storage-path"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Program {
    pub async fn start(directory: &Path) -> Self {
        Self::spawn(&mut command(vec![PROGRAM.into()], directory)).await
    }

    pub async fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the shard says where it listens");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["fields"]["message"] == "listening" {
                break event["fields"]["address"].as_str().unwrap().parse().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Ends it as an operator does.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "{status}");
    }

    /// Kills it, and waits until it is gone: until then its directory is taken.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// `degraded` of a `/health` that answers 200.
    pub async fn degraded(&self) -> Option<String> {
        let (status, body) = http(self.address, "/health").await;
        assert_eq!(status, 200, "{body}");
        let health: Value = serde_json::from_str(&body).unwrap();
        health["degraded"].as_str().map(str::to_owned)
    }

    /// Waits until `/health` says that all is well.
    pub async fn recovers(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut ticks = interval(INTERVAL);
        while let Some(degraded) = self.degraded().await {
            assert!(Instant::now() < end, "still degraded: {degraded}");
            ticks.tick().await;
        }
    }
}

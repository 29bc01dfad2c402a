//! The real programs, each a process of its own that can be killed, paused and told to stop.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
};

use crate::{client::Door, until::within_patience};

/// A process. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: watch::Receiver<String>,
}

/// Memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// What it holds now, bytes.
    pub resident_bytes: u64,
    /// The most it ever held, bytes.
    pub peak_bytes: u64,
}

impl Program {
    /// Starts one of our programs with these arguments and nothing of this process's environment.
    ///
    /// # Panics
    /// If the program has not been built, or cannot be started.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        command.args(["--log-format", "json"]).args(arguments).env_clear();
        Self::spawn(name, command)
    }

    /// Starts any other command.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let (write, log) = watch::channel(String::new());
        tokio::spawn(keep_log(child.stderr.take().unwrap(), write));
        Self { name: name.to_owned(), child, log }
    }

    /// Where it listens, as it says itself.
    ///
    /// # Panics
    /// If it does not say so.
    pub async fn door(&self) -> Door {
        let mut log = self.log.clone();
        let said = log.wait_for(|log| listening(log).is_some());
        let address = within_patience(&format!("{} listens", self.name), said).await;
        let address = address.ok().and_then(|log| listening(&log));
        Door(address.unwrap_or_else(|| panic!("{} ended before it listened:\n{}", self.name, self.log())))
    }

    /// Where it listens, once it is ready.
    pub async fn ready(&self) -> Door {
        let door = self.door().await;
        door.ready().await;
        door
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn end(&mut self) -> ExitStatus {
        let status = within_patience(&format!("{} ends", self.name), self.child.wait()).await.unwrap();
        // Until what it wrote last is read too: then the reader's side of the channel is gone.
        let whole = self.log.wait_for(|_| false);
        assert!(within_patience("the log ends", whole).await.is_err());
        status
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Its memory.
    ///
    /// # Panics
    /// If it has ended.
    pub fn memory(&self) -> Memory {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
            kibibytes << 10
        };
        Memory { resident_bytes: bytes("VmRSS:"), peak_bytes: bytes("VmHWM:") }
    }

    fn pid(&self) -> Pid {
        let id = self.child.id().unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.log()));
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }
}

/// Where one of our programs lies: beside the folder of the test programs, where cargo puts it.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(
        binary.exists(),
        "{} is not built: run `cargo xtask test`, or `cargo build -p {name} --bins` first",
        binary.display()
    );
    binary
}

async fn keep_log(from: ChildStderr, write: watch::Sender<String>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        write.send_modify(|log| {
            log.push_str(&line);
            log.push('\n');
        });
    }
}

fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let is_listening = event["fields"]["message"] == "listening";
        event["fields"]["address"].as_str().filter(|_| is_listening)?.parse().ok()
    })
}

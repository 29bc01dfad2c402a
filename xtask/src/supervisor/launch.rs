//! One running process in a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor alone.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{ServiceSpec, log};

/// A process that has not been reaped. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pid: Pid,
    since: Instant,
}

impl Running {
    /// Starts the program, its output appended to its log. `exited` is called from another thread when the process ends.
    pub(super) fn launch(spec: &ServiceSpec, exited: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let log = log::open_append(&spec.log)?;
        let mut command = Command::new(&spec.program);
        for name in &spec.env_removed {
            command.env_remove(name);
        }
        let child = command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let running = Self { pid: Pid::from_child(&child), child, since: Instant::now() };
        running.call_at_exit(exited)?;
        Ok(running)
    }

    /// Process id, also the id of its group.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time since the start.
    pub(super) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Asks the process, and what it started, to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the process, and what it started, at once.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Collects the ended process, kills what it left behind, and says how it ended.
    pub(super) fn reap(mut self) -> String {
        self.kill();
        self.child.wait().map_or_else(|error| error.to_string(), describe)
    }

    fn signal(&self, signal: Signal) {
        // The process is not reaped yet, so the id cannot belong to another group. An error means that it has ended.
        kill_process_group(self.pid, signal).ok();
    }

    fn call_at_exit(&self, exited: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let pid = self.pid;
        let wait = move || {
            // NOWAIT leaves the process to `reap`: until then its id stays taken, and signals cannot hit a stranger.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
            exited();
        };
        thread::Builder::new().name("wait".to_owned()).spawn(wait).map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            self.child.wait().ok();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

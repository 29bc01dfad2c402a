//! What the supervisor is told, and what it tells.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A program to keep running.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSpec {
    /// Name in messages and in the state file.
    pub(crate) name: String,
    /// The binary.
    pub(crate) program: PathBuf,
    /// Its arguments; no secret belongs here.
    pub(crate) args: Vec<OsString>,
    /// Variables of the caller that it shall not see.
    pub(crate) env_removed: Vec<String>,
    /// Variables set beside those of the caller.
    pub(crate) env: Vec<(String, OsString)>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// The port it listens on.
    pub(crate) port: u16,
}

/// Bounds of a supervisor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long all services together may take until they are ready.
    pub(crate) ready_timeout: Duration,
    /// How long one service may take to end before it is killed.
    pub(crate) drain_timeout: Duration,
    /// Delays before a service is started again.
    pub(crate) restart: RestartPolicy,
}

/// Delays before a service is started again: doubled from `delay_min` to `delay_max`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartPolicy {
    /// Delay after the first death.
    pub(crate) delay_min: Duration,
    /// No delay is longer.
    pub(crate) delay_max: Duration,
    /// A service that ran this long begins at `delay_min` again.
    pub(crate) reset_after: Duration,
}

/// What a look at a starting service found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It serves.
    Ready,
    /// It does not serve; the word says what it does instead.
    NotYet(String),
}

/// How the wait for readiness ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Every service is ready.
    Ready,
    /// Somebody asked for the end first.
    StopRequested,
}

/// One change, as the observer is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A process runs.
    Started { service: String, pid: u32 },
    /// These services are not ready yet.
    WaitingFor { what: String },
    /// A service ended by itself and will be started again.
    Died { service: String, reason: String, restart_after: Duration },
    /// A service was asked to end.
    Draining { service: String },
    /// A service did not end in time, or somebody asked twice.
    Killed { service: String },
    /// A service that was asked to end has ended.
    Stopped { service: String, reason: String },
}

/// Asks a supervisor for the end.
pub(crate) struct StopHandle {
    request: Box<dyn Fn() + Send>,
}

impl StopHandle {
    pub(super) fn new(request: impl Fn() + Send + 'static) -> Self {
        Self { request: Box::new(request) }
    }

    /// Asks once; while services drain, asks to kill them.
    pub(crate) fn request(&self) {
        (self.request)();
    }
}

/// A service did not come up.
#[derive(Debug)]
pub(crate) struct StartError {
    /// Its name.
    pub(crate) service: String,
    /// What happened, as the rest of a sentence.
    pub(crate) reason: String,
    /// Where its output went.
    pub(crate) log: PathBuf,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.service, self.reason)
    }
}

impl Error for StartError {}

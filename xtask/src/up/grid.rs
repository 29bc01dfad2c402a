//! One life of the grid: lock, start, wait, watch, drain, clean up.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::Refused;
use super::plan::{LIMITS, Plan};
use super::services;
use crate::console;
use crate::haproxy::AdminSocket;
use crate::http;
use crate::signals;
use crate::state::State;
use crate::supervisor::{
    Limits, Notice, Probe, Readiness, ServiceSpec, StartError, StopHandle, Supervisor, log,
};
use crate::workspace::Workspace;

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines of a service's log that are shown where it does not come up.
const LOG_LINES_SHOWN: usize = 20;

/// Runs the grid until somebody wants the end. `ready` is called once every service is.
pub(super) fn supervise(
    workspace: &Workspace,
    plan: &Plan,
    ready: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let admin = AdminSocket::in_or_beside(&workspace.run_dir()).context("make a folder for a socket")?;
    let specs = services::specs(plan, workspace, admin.path())?;
    let mut state = State::of_own(&plan.model, &specs)?;
    state.balancer = plan.balancer(admin.path());
    live(workspace, state, specs, LIMITS, signals::request_stop_on_signals, ready)
}

fn live(
    workspace: &Workspace,
    mut state: State,
    specs: Vec<ServiceSpec>,
    limits: Limits,
    listen: impl FnOnce(StopHandle) -> Result<()>,
    ready: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let _lock = lock(&workspace.lock_file())?;
    for spec in &specs {
        log::rotate(&spec.log).with_context(|| format!("rotate {}", spec.log.display()))?;
    }
    state.save(workspace)?;
    let mut supervisor = Supervisor::new(specs, limits, |notice| observe(workspace, &mut state, notice));
    let outcome = listen(supervisor.stop_handle()).and_then(|()| run(&mut supervisor, ready));
    supervisor.drain();
    State::remove(workspace)?;
    outcome
}

fn run(supervisor: &mut Supervisor<'_>, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    supervisor.start().map_err(with_log)?;
    if supervisor.wait_ready(probe_health).map_err(with_log)? == Readiness::Ready {
        ready()?;
        supervisor.watch();
    }
    Ok(())
}

/// One supervisor per workspace: the lock goes with the process, however it ends.
fn lock(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = "another `cargo xtask up` is starting or running; stop it with `cargo xtask down`";
            Err(Refused(message.to_owned()).into())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn observe(workspace: &Workspace, state: &mut State, notice: &Notice) {
    if let Notice::Started { service, pid } = notice {
        state.note_started(service, *pid);
        if let Err(error) = state.save(workspace) {
            console::warn(format!("{error:#}"));
        }
    }
    console::warn(line(notice));
}

fn line(notice: &Notice) -> String {
    match notice {
        Notice::Started { service, pid } => format!("{service} started (pid {pid})"),
        Notice::WaitingFor { what } => format!("waiting for {what}"),
        Notice::Died { service, reason, restart_after } => {
            format!("{service} died ({reason}); it is started again in {restart_after:?}")
        }
        Notice::Draining { service } => format!("{service} is asked to drain"),
        Notice::Killed { service } => format!("{service} is killed"),
        Notice::Stopped { service, reason } => format!("{service} stopped ({reason})"),
    }
}

fn probe_health(spec: &ServiceSpec) -> Probe {
    match http::get(spec.port, "/health", PROBE_TIMEOUT) {
        Ok(answer) if answer.status == 200 => Probe::Ready,
        Ok(answer) => Probe::NotYet(health_word(&answer.body).unwrap_or_else(|| answer.status.to_string())),
        Err(_) => Probe::NotYet("no answer".to_owned()),
    }
}

/// The state that `/health` names in its body.
pub(crate) fn health_word(body: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    json.get("status")?.as_str().map(str::to_owned)
}

/// The error with the last lines of the culprit's log.
fn with_log(error: StartError) -> anyhow::Error {
    let lines = log::tail(&error.log, LOG_LINES_SHOWN);
    let path = error.log.display().to_string();
    match lines.is_empty() {
        true => anyhow!("{error}; {path} is empty"),
        false => anyhow!("{error}; the end of {path}:\n  {}", lines.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::up::plan::LIMITS;

    fn shell(workspace: &Workspace, script: &str) -> Vec<ServiceSpec> {
        vec![ServiceSpec {
            name: "fake".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env_removed: Vec::new(),
            env: Vec::new(),
            log: workspace.logs().join("fake.log"),
            port: 0,
        }]
    }

    fn state(specs: &[ServiceSpec]) -> State {
        State::of_own("medium", specs).unwrap()
    }

    /// A server on a port of its own that says `status` to every request, until the test ends.
    fn health_server(status: &'static str) -> u16 {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                write!(stream, "HTTP/1.0 {status}\r\n\r\n{{\"status\":\"loading\"}}").unwrap();
            }
        });
        port
    }

    #[test]
    fn state_exists_while_services_run_and_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let mut specs = shell(&workspace, "while :; do sleep 0.05; done");
        specs[0].port = health_server("200 OK");
        let stop = RefCell::new(None);
        let listen = |handle| {
            *stop.borrow_mut() = Some(handle);
            Ok(())
        };
        let mut seen = None;
        let ready = || {
            seen = State::load_running(&workspace)?;
            stop.borrow().as_ref().map(StopHandle::request);
            Ok(())
        };
        live(&workspace, state(&specs), specs, LIMITS, listen, ready).unwrap();
        let process = seen.unwrap().services[0].process.unwrap();
        assert!(!process.is_alive());
        assert!(!workspace.run_dir().exists());
    }

    #[test]
    fn service_that_does_not_come_up_is_shown_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let specs = shell(&workspace, "echo cannot open the model; exit 9");
        let ready = || panic!("it never becomes ready");
        let error = live(&workspace, state(&specs), specs, LIMITS, |_| Ok(()), ready).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("fake ended while it started (exit code 9); the end of "), "{text}");
        assert!(text.ends_with("fake.log:\n  cannot open the model"), "{text}");
        assert!(!workspace.run_dir().exists());
    }

    #[test]
    fn second_grid_of_a_workspace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let first = lock(&workspace.lock_file()).unwrap();
        let error = live(&workspace, state(&[]), Vec::new(), LIMITS, |_| Ok(()), || Ok(())).unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
        drop(first);
        lock(&workspace.lock_file()).unwrap();
    }

    #[test]
    fn health_says_what_a_service_does_instead_of_serving() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = shell(&Workspace::at(folder.path()), "").remove(0);
        spec.port = health_server("503 Service Unavailable");
        assert_eq!(probe_health(&spec), Probe::NotYet("loading".to_owned()));
        spec.port = 0;
        assert_eq!(probe_health(&spec), Probe::NotYet("no answer".to_owned()));
    }
}

//! `.sutra/run/state.json`: what runs, for the commands that come from another terminal.
//!
//! The supervisor writes it at every start and restart and removes it at the end. After a crash of the supervisor it is stale,
//! which every reader sees: the process it names is gone.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::ProcessIdentity;
use crate::supervisor::ServiceSpec;
use crate::workspace::Workspace;

/// Name of the storage node.
pub(crate) const CACHE_SHARD: &str = "cache-shard";
/// Name of the service that clients talk to.
pub(crate) const EMBEDDING_SINGLE: &str = "embedding-single";

/// A running grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The process that keeps the services running.
    pub(crate) supervisor: ProcessIdentity,
    /// The model as the user named it.
    pub(crate) model: String,
    /// In the order they were started.
    pub(crate) services: Vec<ServiceState>,
    /// How to talk to the balancer; none where ml-base runs without one.
    #[serde(default)]
    pub(crate) balancer: Option<Balancer>,
}

/// The ways to talk to a running HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balancer {
    /// Port on loopback with statistics, at the level of operators.
    pub(crate) stats_port: u16,
    /// Unix socket that takes every order.
    pub(crate) admin_socket: PathBuf,
}

/// One service of the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceState {
    /// Its name: that of its binary, with a number behind it where there can be several.
    pub(crate) name: String,
    /// Its process; none while it waits to be started.
    pub(crate) process: Option<ProcessIdentity>,
    /// The port it listens on.
    pub(crate) port: u16,
    /// Start of the process in seconds since 1970.
    pub(crate) started_unix_s: u64,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

impl State {
    /// The state of services that this process is about to start.
    pub(crate) fn of_own(model: &str, specs: &[ServiceSpec]) -> Result<Self> {
        let supervisor = ProcessIdentity::of(std::process::id()).context("read /proc about this process")?;
        let service = |spec: &ServiceSpec| ServiceState {
            name: spec.name.clone(),
            process: None,
            port: spec.port,
            started_unix_s: unix_now_s(),
            restarts: 0,
            log: spec.log.clone(),
        };
        let services = specs.iter().map(service).collect();
        Ok(Self { supervisor, model: model.to_owned(), services, balancer: None })
    }

    /// The state as last written; none where nothing was started.
    ///
    /// # Errors
    /// Where the file cannot be read or is not what this version writes.
    pub(crate) fn load(workspace: &Workspace) -> Result<Option<Self>> {
        let path = path(workspace);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("parse {} (delete it if nothing runs)", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// The state, where its supervisor lives.
    pub(crate) fn load_running(workspace: &Workspace) -> Result<Option<Self>> {
        Ok(Self::load(workspace)?.filter(|state| state.supervisor.is_alive()))
    }

    /// Writes the state, whole or not at all.
    pub(crate) fn save(&self, workspace: &Workspace) -> Result<()> {
        let path = path(workspace);
        let draft = path.with_extension("json.new");
        let json = serde_json::to_vec_pretty(self).context("encode the state")?;
        fs::create_dir_all(workspace.run_dir())
            .and_then(|()| fs::write(&draft, json))
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the state: nothing runs any more.
    pub(crate) fn remove(workspace: &Workspace) -> Result<()> {
        match fs::remove_dir_all(workspace.run_dir()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", workspace.run_dir().display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Notes that `service` runs as `pid` now.
    pub(crate) fn note_started(&mut self, service: &str, pid: u32) {
        if let Some(service) = self.service_mut(service) {
            if service.process.is_some() {
                service.restarts += 1;
            }
            service.process = ProcessIdentity::of(pid);
            service.started_unix_s = unix_now_s();
        }
    }

    /// Where clients reach the grid.
    pub(crate) fn url(&self) -> Option<String> {
        let door = self.services.iter().find(|service| service.name == EMBEDDING_SINGLE)?;
        Some(format!("http://127.0.0.1:{}", door.port))
    }

    /// Where tools reach the cache shard.
    pub(crate) fn shard_url(&self) -> Option<String> {
        let shard = self.services.iter().find(|service| service.name == CACHE_SHARD)?;
        Some(format!("http://127.0.0.1:{}", shard.port))
    }

    /// The processes of all services that have one.
    pub(crate) fn processes(&self) -> Vec<ProcessIdentity> {
        self.services.iter().filter_map(|service| service.process).collect()
    }

    fn service_mut(&mut self, name: &str) -> Option<&mut ServiceState> {
        self.services.iter_mut().find(|service| service.name == name)
    }
}

impl ServiceState {
    /// Time since its process was started.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_secs(unix_now_s().saturating_sub(self.started_unix_s))
    }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.run_dir().join("state.json")
}

fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, port: u16) -> ServiceSpec {
        ServiceSpec {
            name: name.to_owned(),
            program: PathBuf::new(),
            args: Vec::new(),
            env_removed: Vec::new(),
            env: Vec::new(),
            log: PathBuf::from(format!("{name}.log")),
            port,
        }
    }

    #[test]
    fn state_survives_writing_and_is_gone_after_removal() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        assert_eq!(State::load(&workspace).unwrap(), None);
        State::remove(&workspace).unwrap();
        let mut state = State::of_own("medium", &[spec("ml-base", 1), spec(EMBEDDING_SINGLE, 2)]).unwrap();
        state.note_started("ml-base", std::process::id());
        state.save(&workspace).unwrap();
        assert_eq!(State::load_running(&workspace).unwrap().as_ref(), Some(&state));
        assert_eq!(state.url().as_deref(), Some("http://127.0.0.1:2"));
        assert_eq!(state.processes().len(), 1);
        State::remove(&workspace).unwrap();
        assert!(!workspace.run_dir().exists());
    }

    #[test]
    fn second_start_counts_as_a_restart() {
        let mut state = State::of_own("medium", &[spec("ml-base", 1)]).unwrap();
        state.note_started("ml-base", std::process::id());
        assert_eq!(state.services[0].restarts, 0);
        state.note_started("ml-base", std::process::id());
        assert_eq!(state.services[0].restarts, 1);
    }

    #[test]
    fn state_of_a_dead_supervisor_is_not_running() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut state = State::of_own("medium", &[]).unwrap();
        state.supervisor = ProcessIdentity::of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        state.save(&workspace).unwrap();
        assert_eq!(State::load_running(&workspace).unwrap(), None);
        assert_eq!(State::load(&workspace).unwrap(), Some(state));
    }

    #[test]
    fn damaged_state_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        fs::create_dir_all(workspace.run_dir()).unwrap();
        fs::write(path(&workspace), "{").unwrap();
        let error = State::load(&workspace).unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
    }
}

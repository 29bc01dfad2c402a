//! `bench serve`: load on the running grid, by `loadtest`. `bench engine`, `bench kernels`: the engine alone, by `engine-bench`.
//! `bench cache`, `bench l1`: the caches beside their peers, `bench shards`: shards that come and go, by `cache-bench`.

mod engine;

use std::ffi::OsString;
use std::iter;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::DEFAULT_MODEL;
use crate::embed::{asks_for_help, has_flag, with_url};
use crate::model;
use crate::state::State;
use crate::workspace::Workspace;

pub(crate) use engine::run as run_engine;

/// Becomes `loadtest`.
pub(crate) fn run_serve(workspace: &Workspace, args: Vec<OsString>) -> Result<ExitCode> {
    let state = State::load_running(workspace)?;
    let args = with_server_pids(state.as_ref(), with_url(state.as_ref().and_then(State::url), args)?);
    Err(workspace.become_binary("loadtest", args))
}

/// Becomes `engine-bench kernels`.
pub(crate) fn run_kernels(workspace: &Workspace, args: Vec<OsString>) -> Result<ExitCode> {
    Err(workspace.become_binary("engine-bench", iter::once("kernels".into()).chain(args).collect()))
}

/// Becomes `cache-bench`, which finds the services beside itself; with `--http` they need a model.
pub(crate) fn run_cache(workspace: &Workspace, mut args: Vec<OsString>) -> Result<ExitCode> {
    workspace.build_binaries()?;
    if has_flag(&args, "--http") && !has_flag(&args, "--model") && !asks_for_help(&args) {
        args.extend(["--model".into(), model::fetch(workspace, DEFAULT_MODEL)?.into()]);
    }
    Err(workspace.become_built("cache-bench", args))
}

/// Becomes `cache-bench shards`, whose misses need a model.
pub(crate) fn run_shards(workspace: &Workspace, mut args: Vec<OsString>) -> Result<ExitCode> {
    workspace.build_binaries()?;
    if !has_flag(&args, "--model") && !asks_for_help(&args) {
        args.extend(["--model".into(), model::fetch(workspace, DEFAULT_MODEL)?.into()]);
    }
    Err(workspace.become_built("cache-bench", iter::once("shards".into()).chain(args).collect()))
}

/// Becomes `cache-bench l1`.
pub(crate) fn run_l1(workspace: &Workspace, args: Vec<OsString>) -> Result<ExitCode> {
    Err(workspace.become_binary("cache-bench", iter::once("l1".into()).chain(args).collect()))
}

/// `args` with a `--server-pid` per process of each service, where the load goes to the running grid.
fn with_server_pids(state: Option<&State>, mut args: Vec<OsString>) -> Vec<OsString> {
    let own_url = state.and_then(State::url).is_some_and(|url| args.contains(&url.into()));
    if own_url && !has_flag(&args, "--server-pid") && !asks_for_help(&args) {
        let leaders = state.map(State::processes).unwrap_or_default();
        // HAProxy's master only watches; the memory is its worker's.
        let pids = leaders.into_iter().flat_map(|leader| iter::once(leader.pid).chain(leader.children()));
        args.extend(pids.flat_map(|pid| ["--server-pid".into(), pid.to_string().into()]));
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{EMBEDDING_SINGLE, ServiceState};

    fn state() -> State {
        let mut state = State::of_own("medium", &[]).unwrap();
        state.services.push(ServiceState {
            name: EMBEDDING_SINGLE.to_owned(),
            process: Some(state.supervisor),
            port: 8888,
            started_unix_s: 0,
            restarts: 0,
            log: "x.log".into(),
        });
        state
    }

    #[test]
    fn pids_of_the_running_grid_are_added() {
        let state = state();
        let args = with_url(state.url(), vec!["--file".into(), "x".into()]).unwrap();
        let pid = std::process::id().to_string();
        let expected = ["--file", "x", "--url", "http://127.0.0.1:8888", "--server-pid", &pid];
        assert_eq!(with_server_pids(Some(&state), args), expected.map(OsString::from));
    }

    #[test]
    fn pids_are_not_added_for_another_server_or_where_given() {
        let state = state();
        for given in
            [["--url", "http://127.0.0.1:9", "", ""], ["--url", "http://127.0.0.1:8888", "--server-pid", "7"]]
        {
            let args: Vec<OsString> = given.map(OsString::from).to_vec();
            assert_eq!(with_server_pids(Some(&state), args.clone()), args);
        }
    }
}

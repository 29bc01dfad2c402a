//! `cache`: a look into the running shard, by `cache-admin`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::embed::with_url;
use crate::state::State;
use crate::workspace::Workspace;

/// Becomes `cache-admin`.
pub(crate) fn run(workspace: &Workspace, args: Vec<OsString>) -> Result<ExitCode> {
    let running = State::load_running(workspace)?;
    let args = with_url(running.as_ref().and_then(State::shard_url), args)?;
    Err(workspace.become_binary("cache-admin", args))
}

//! `down`: asks the supervisor to drain and stop everything, and makes sure that it did.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::console;
use crate::process::{ProcessIdentity, wait_gone};
use crate::state::State;
use crate::up::LIMITS;
use crate::workspace::Workspace;

/// The supervisor drains one service after the other, each within its bound, and then needs a moment for itself.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(5);
/// A killed process ends at once, unless the kernel itself hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Stops the grid, if one runs.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let Some(state) = State::load(workspace)? else {
        console::say("nothing runs");
        return Ok(ExitCode::SUCCESS);
    };
    stop(workspace, &state)?;
    Ok(ExitCode::SUCCESS)
}

fn stop(workspace: &Workspace, state: &State) -> Result<()> {
    let supervisor = state.supervisor;
    if supervisor.is_alive() {
        let services = u32::try_from(state.services.len()).unwrap_or(u32::MAX);
        let bound = LIMITS.drain_timeout.saturating_mul(services) + SUPERVISOR_MARGIN;
        console::say(format!("draining (pid {}; at most {bound:?})", supervisor.pid));
        supervisor.signal(Signal::TERM);
        if !wait_gone(&[supervisor], bound) {
            console::warn(format!("the supervisor has not stopped after {bound:?} and is killed"));
            supervisor.signal(Signal::KILL);
            wait_gone(&[supervisor], KILL_TIMEOUT);
        }
    }
    end_leftovers(workspace, state)?;
    console::say("stopped");
    Ok(())
}

/// Ends the services that outlived their supervisor, and removes its state.
pub(crate) fn end_leftovers(workspace: &Workspace, state: &State) -> Result<()> {
    // A service that the supervisor started again after `state` was read is in the file now.
    let processes = State::load(workspace)?.as_ref().unwrap_or(state).processes();
    end(&processes, LIMITS.drain_timeout);
    State::remove(workspace)
}

fn end(processes: &[ProcessIdentity], drain_timeout: Duration) {
    let alive: Vec<ProcessIdentity> =
        processes.iter().copied().filter(|process| process.is_alive()).collect();
    alive.iter().for_each(|process| process.signal_group(Signal::TERM));
    if !wait_gone(&alive, drain_timeout) {
        console::warn(format!("services have not stopped after {drain_timeout:?} and are killed"));
        alive.iter().for_each(|process| process.signal_group(Signal::KILL));
        wait_gone(&alive, KILL_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    /// A script in a process group of its own that lives until it is signalled, once its trap is set.
    fn shell(trap: &str) -> Child {
        use std::io::{BufRead, BufReader};
        let script = format!("{trap}; echo up; while :; do sleep 0.05; done");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).process_group(0).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        child
    }

    fn state_with(supervisor: &Child) -> State {
        let mut state = State::of_own("medium", &[]).unwrap();
        state.supervisor = ProcessIdentity::of(supervisor.id()).unwrap();
        state
    }

    #[test]
    fn nothing_running_is_a_success() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(&Workspace::at(folder.path())).unwrap(), ExitCode::SUCCESS);
    }

    #[test]
    fn supervisor_is_asked_to_end_and_the_state_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let mut supervisor = shell("trap 'exit 5' TERM");
        state_with(&supervisor).save(&workspace).unwrap();
        run(&workspace).unwrap();
        assert_eq!(supervisor.wait().unwrap().code(), Some(5));
        assert!(!workspace.run_dir().exists());
    }

    #[test]
    fn service_without_supervisor_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let mut orphan = shell(":");
        let identity = ProcessIdentity::of(orphan.id()).unwrap();
        end(&[identity], Duration::from_secs(60));
        assert!(!identity.is_alive());
        orphan.wait().unwrap();
        State::remove(&workspace).unwrap();
    }

    #[test]
    fn service_that_ignores_the_request_is_killed() {
        let mut stubborn = shell("trap '' TERM");
        let identity = ProcessIdentity::of(stubborn.id()).unwrap();
        end(&[identity], Duration::from_millis(50));
        assert!(!identity.is_alive());
        stubborn.wait().unwrap();
    }
}

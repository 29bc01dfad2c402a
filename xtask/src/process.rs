//! Processes by identity: a pid alone is not enough, since the kernel gives it to another process later.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// How long to wait between two looks at a process that is not our child.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// One process, told from a later one with the same pid by the time it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// Process id.
    pub(crate) pid: u32,
    /// Start of the process in clock ticks since boot.
    start_ticks: u64,
}

impl ProcessIdentity {
    /// The process that has `pid` now; none where it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).map(|start_ticks| Self { pid, start_ticks })
    }

    /// Whether it still runs. A zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// The processes it has started and not yet reaped; empty where the kernel does not tell.
    pub(crate) fn children(self) -> Vec<u32> {
        let pid = self.pid;
        let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
    }

    /// Sends `signal` to the process, where it is alive.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(pid) = self.pid_if_alive() {
            // It may end between the look and the call: then there is nothing left to do.
            kill_process(pid, signal).ok();
        }
    }

    /// Sends `signal` to the process and all in its group, where it is alive. It must lead that group.
    pub(crate) fn signal_group(self, signal: Signal) {
        if let Some(pid) = self.pid_if_alive() {
            kill_process_group(pid, signal).ok();
        }
    }

    fn pid_if_alive(self) -> Option<Pid> {
        let raw = i32::try_from(self.pid).ok().filter(|raw| *raw > 1)?;
        Pid::from_raw(raw).filter(|_| self.is_alive())
    }
}

/// Start in clock ticks out of `/proc/PID/stat`; none for a zombie.
fn parse_stat(stat: &str) -> Option<u64> {
    // The name in parentheses may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    // The state is field 3 of proc(5), the start field 22.
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

/// Waits until all of `processes` have ended; says whether they have within `timeout`.
#[expect(clippy::disallowed_methods, reason = "the end of a process that is not a child sends no event")]
pub(crate) fn wait_gone(processes: &[ProcessIdentity], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if !processes.iter().any(|process| process.is_alive()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Command;

    use super::*;

    #[test]
    fn start_is_read_behind_a_name_with_spaces_and_parentheses() {
        let stat = "12 (a) (b c) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 1";
        assert_eq!(parse_stat(stat), Some(98765));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_stat("12 (sh) S 1"), None);
    }

    #[test]
    fn process_is_alive_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_alive());
        identity.signal(Signal::KILL);
        assert!(wait_gone(&[identity], Duration::from_secs(30)));
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }

    #[test]
    fn children_of_a_process_are_listed() {
        let script = "sleep 600 & echo started; wait";
        let mut shell = Command::new("/bin/sh");
        let mut shell = shell.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let children = ProcessIdentity::of(shell.id()).unwrap().children();
        children.iter().for_each(|child| ProcessIdentity::of(*child).unwrap().signal(Signal::KILL));
        shell.wait().unwrap();
        assert_eq!(children.len(), 1);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_it() {
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        let earlier = ProcessIdentity { start_ticks: own.start_ticks.wrapping_sub(1), ..own };
        assert!(own.is_alive());
        assert!(!earlier.is_alive());
    }

    #[test]
    fn wait_ends_at_its_bound_while_a_process_lives() {
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        assert!(!wait_gone(&[own], Duration::from_millis(1)));
    }
}

//! What processes use of the machine, out of `/proc`.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// Resident memory and processor time of one service: its process, and all in the group it leads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Usage {
    /// Resident memory, bytes. Pages that two processes of a group share count twice.
    pub(super) memory_bytes: u64,
    /// Processor time between both looks; 100 is one core.
    pub(super) cpu_percent: f64,
}

/// What the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Machine {
    /// Cores.
    pub(super) cores: u64,
    /// Memory, bytes.
    pub(super) memory_bytes: u64,
}

impl Machine {
    /// This machine; none where `/proc` does not say.
    pub(super) fn read() -> Option<Self> {
        let (cores, _) = machine_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let memory_bytes = kib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? * 1024;
        Some(Self { cores, memory_bytes })
    }
}

/// Processor time of one process, and the group it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcessTicks {
    group: u32,
    ticks: u64,
}

/// Processor time of everything at one moment, in clock ticks. Their length cancels out.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    cores: u64,
    machine_ticks: u64,
    processes: BTreeMap<u32, ProcessTicks>,
}

impl Snapshot {
    /// Now. What `/proc` does not tell is missing from it.
    pub(super) fn take() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (cores, machine_ticks) = machine_ticks(&stat).unwrap_or_default();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ticks = |pid| Some((pid, process_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
        Self { cores, machine_ticks, processes: pids.filter_map(ticks).collect() }
    }

    /// What `leader` and its group have used since `before`, and the memory they hold now; none where it is gone.
    pub(super) fn usage_since(&self, before: &Self, leader: u32) -> Option<Usage> {
        self.processes.get(&leader)?;
        let members = self.members(leader);
        let memory_bytes = members.iter().filter_map(|(pid, _)| resident_bytes(*pid)).sum();
        Some(Usage { memory_bytes, cpu_percent: self.cpu_percent(before, &members) })
    }

    fn members(&self, leader: u32) -> Vec<(u32, u64)> {
        let members =
            self.processes.iter().filter(|(pid, process)| **pid == leader || process.group == leader);
        members.map(|(pid, process)| (*pid, process.ticks)).collect()
    }

    fn cpu_percent(&self, before: &Self, members: &[(u32, u64)]) -> f64 {
        let earlier = |pid| before.processes.get(&pid).map_or(0, |process| process.ticks);
        let used: u64 = members.iter().map(|(pid, ticks)| ticks.saturating_sub(earlier(*pid))).sum();
        match self.machine_ticks.saturating_sub(before.machine_ticks) {
            0 => 0.0,
            passed => 100.0 * self.cores as f64 * used as f64 / passed as f64,
        }
    }
}

/// Number of cores, and ticks of all of them together since boot, out of `/proc/stat`.
fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
    let cpus = || stat.lines().filter(|line| line.starts_with("cpu"));
    let all = cpus().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; the guest's times behind them are in user already.
    let ticks = all.split_whitespace().take(8).filter_map(|field| field.parse::<u64>().ok()).sum();
    let cores = u64::try_from(cpus().count().saturating_sub(1)).ok()?;
    Some((cores, ticks))
}

/// Group and ticks out of `/proc/PID/stat`.
fn process_ticks(stat: &str) -> Option<ProcessTicks> {
    // The name in parentheses may hold spaces and parentheses itself; the state behind it is field 3 of proc(5).
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<u64>().ok();
    Some(ProcessTicks { group: u32::try_from(number(5)?).ok()?, ticks: number(14)? + number(15)? })
}

fn resident_bytes(pid: u32) -> Option<u64> {
    kib_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:").map(|kib| kib * 1024)
}

/// The number behind `name` in a file with lines as `VmRSS:   1234 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  40 0 20 130 5 0 3 2 7 0\ncpu0 20 0 10 65 2 0 1 2 0 0\ncpu1 20 0 10 65 3 0 2 0 7 0\nintr 1";

    #[test]
    fn machine_ticks_are_those_of_all_cores_without_the_guests() {
        assert_eq!(machine_ticks(STAT), Some((2, 200)));
        assert_eq!(machine_ticks(""), None);
    }

    #[test]
    fn group_and_ticks_are_read_behind_a_name_with_spaces() {
        let stat = "12 (a) (b c) S 1 77 12 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 98765 1000 1";
        assert_eq!(process_ticks(stat), Some(ProcessTicks { group: 77, ticks: 56 }));
    }

    fn snapshot(machine_ticks: u64, processes: &[(u32, u32, u64)]) -> Snapshot {
        let process =
            |(pid, group, ticks): &(u32, u32, u64)| (*pid, ProcessTicks { group: *group, ticks: *ticks });
        Snapshot { cores: 2, machine_ticks, processes: processes.iter().map(process).collect() }
    }

    #[test]
    fn cpu_is_that_of_the_whole_group_since_the_earlier_look() {
        let before = snapshot(1000, &[(10, 10, 500), (11, 10, 100), (20, 20, 9)]);
        // Process 12 was started in between, and 20 is somebody else's.
        let after = snapshot(1200, &[(10, 10, 510), (11, 10, 130), (12, 10, 10), (20, 20, 99)]);
        // 50 of 200 ticks on two cores are half a core.
        assert_eq!(after.cpu_percent(&before, &after.members(10)), 50.0);
        assert_eq!(after.cpu_percent(&after, &after.members(10)), 0.0);
        assert_eq!(after.usage_since(&before, 30), None);
    }

    #[test]
    fn own_process_uses_memory() {
        let now = Snapshot::take();
        let usage = now.usage_since(&now, std::process::id()).unwrap();
        assert!(usage.memory_bytes > 0 && usage.memory_bytes < Machine::read().unwrap().memory_bytes);
    }
}

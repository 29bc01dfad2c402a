//! Resident memory of the server's processes, before, after and at its highest.

use std::{fs, io, path::Path, time::Duration};

use anyhow::Context;
use serde::Serialize;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// One process under watch; sizes in KiB.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Watched {
    /// The process.
    pub(crate) pid: u32,
    /// Its command.
    pub(crate) name: String,
    /// When the measurement began.
    pub(crate) before_kib: u64,
    /// When it ended; `None` if the process is gone.
    pub(crate) after_kib: Option<u64>,
    /// The highest sample, one a second.
    pub(crate) peak_kib: u64,
}

impl Watched {
    /// Takes the first sample.
    ///
    /// # Errors
    /// Where there is no such process.
    pub(crate) fn start(pid: u32) -> anyhow::Result<Self> {
        let before_kib = resident_kib(pid).with_context(|| format!("`--server-pid` {pid}"))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        Ok(Self { pid, name, before_kib, after_kib: Some(before_kib), peak_kib: before_kib })
    }

    fn sample(&mut self) {
        self.after_kib = resident_kib(self.pid).ok();
        self.peak_kib = self.peak_kib.max(self.after_kib.unwrap_or(0));
    }
}

/// Samples all of `watched` each second, for as long as it is polled.
pub(crate) async fn watch(watched: &mut [Watched]) -> std::convert::Infallible {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        interval.tick().await;
        sample_all(watched);
    }
}

/// Takes the last sample.
pub(crate) fn sample_all(watched: &mut [Watched]) {
    watched.iter_mut().for_each(Watched::sample);
}

fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    parse_resident(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the process has ended"))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_seen_and_a_missing_process_is_named() {
        let mut watched = Watched::start(std::process::id()).unwrap();
        watched.sample();
        assert!(watched.before_kib > 0 && watched.peak_kib >= watched.after_kib.unwrap());
        // The largest number there is; the kernel gives out far smaller ones.
        let error = Watched::start(u32::MAX).unwrap_err();
        assert_eq!(error.to_string(), format!("`--server-pid` {}", u32::MAX));
    }

    #[test]
    fn zombie_has_no_resident_memory() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t  1234 kB\nThreads: 3\n"), Some(1234));
        assert_eq!(parse_resident("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}

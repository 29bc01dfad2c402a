//! Whether the machine has cores for all who want one.

use std::fs::File;
use std::num::NonZeroUsize;

/// What Linux says of its load: three averages, then `running/all` threads. The averages are of the last minutes.
const LOAD: &str = "/proc/loadavg";

/// Bytes that hold the line.
const LINE_BYTES_MAX: usize = 128;

/// The cores that this process may use, and a look at who runs.
#[derive(Debug)]
pub(crate) struct Cores {
    cores: NonZeroUsize,
    /// Kept open: a look takes one or two microseconds. `None` where there is no such file.
    load: Option<File>,
}

impl Cores {
    /// Those of this machine.
    pub(crate) fn of_machine() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { cores, load: File::open(LOAD).ok() }
    }

    /// Whether every thread that wants a core has one, the calling one among them; false where that cannot be told.
    pub(crate) fn are_enough(&self) -> bool {
        self.running().is_some_and(|running| running <= self.cores.get())
    }

    /// Threads of all processes that run or wait for a core. A sandbox that shows a made-up line says zero, which cannot
    /// be, as the calling thread runs.
    fn running(&self) -> Option<usize> {
        let mut line = [0; LINE_BYTES_MAX];
        let length = read_from_start(self.load.as_ref()?, &mut line)?;
        running(&line[..length]).filter(|running| *running > 0)
    }
}

#[cfg(unix)]
fn read_from_start(file: &File, line: &mut [u8]) -> Option<usize> {
    std::os::unix::fs::FileExt::read_at(file, line, 0).ok()
}

#[cfg(not(unix))]
fn read_from_start(_file: &File, _line: &mut [u8]) -> Option<usize> {
    None
}

fn running(line: &[u8]) -> Option<usize> {
    let (running, _all) = std::str::from_utf8(line).ok()?.split_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    impl Cores {
        /// So many cores, and what Linux is to say.
        pub(crate) fn of_test(cores: usize, line: &str) -> Self {
            let mut load = tempfile::tempfile().unwrap();
            load.write_all(line.as_bytes()).unwrap();
            Self { cores: NonZeroUsize::new(cores).unwrap(), load: Some(load) }
        }
    }

    fn cores(cores: usize, line: &str) -> Cores {
        Cores::of_test(cores, line)
    }

    #[test]
    fn cores_are_enough_for_as_many_threads() {
        assert!(cores(8, "2.35 1.75 0.77 3/99 816\n").are_enough());
        assert!(cores(2, "0.00 0.00 0.00 2/99 816\n").are_enough());
        assert!(!cores(2, "0.35 0.75 0.77 3/99 816\n").are_enough());
    }

    #[test]
    fn cores_are_not_enough_where_it_cannot_be_told() {
        for line in ["", "0.00 0.00 0.00", "0.00 0.00 0.00 x/y 1", "0.00 0.00 0.00 0/0 0"] {
            assert!(!cores(4, line).are_enough(), "{line:?}");
        }
        assert!(!Cores { cores: NonZeroUsize::MIN, load: None }.are_enough());
    }

    #[test]
    fn look_is_new_each_time() {
        let cores = cores(4, "0.00 0.00 0.00 1/9 1\n");
        assert!(cores.are_enough() && cores.are_enough());
    }
}

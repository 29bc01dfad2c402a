//! Logs of services: one file each, the one of the run before kept beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// No more than this is read from the end of a log.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// Opens the log for appending; makes its folder where that is missing.
pub(super) fn open_append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Renames `x.log` to `x.log.1`, so that the next run begins an empty one.
pub(crate) fn rotate(path: &Path) -> io::Result<()> {
    let mut previous = path.as_os_str().to_owned();
    previous.push(".1");
    match fs::rename(path, previous) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The last `lines` lines; empty where there is no log.
pub(crate) fn tail(path: &Path, lines: usize) -> Vec<String> {
    let text = read_end(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_the_log_of_the_run_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        rotate(&path).unwrap();
        fs::write(&path, "old").unwrap();
        rotate(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(folder.path().join("x.log.1")).unwrap(), "old");
    }

    #[test]
    fn tail_gives_the_last_lines_of_a_long_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        assert!(tail(&path, 2).is_empty());
        let text: String = (0..10_000).map(|line| format!("line {line}\n")).collect();
        fs::write(&path, text).unwrap();
        assert_eq!(tail(&path, 2), ["line 9998", "line 9999"]);
        assert!(tail(&path, usize::MAX).len() < 10_000);
    }
}

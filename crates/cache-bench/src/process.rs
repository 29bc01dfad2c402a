//! What Linux tells about a process and a folder: memory, bytes written, blocks on the disk.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};

/// A block of `stat` has this many bytes whatever the disk has.
const BLOCK_BYTES: u64 = 512;

/// Resident memory of a process.
///
/// # Errors
/// Where it has ended.
pub(crate) fn memory_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the memory of a process")?;
    let kib = field(&status, "VmRSS:").context("a process that has ended has no memory")?;
    Ok(kib << 10)
}

/// Bytes that a process and its children that ended have given to the disk: the pages they made dirty. Those of a file
/// that goes before they are written count as well, although the disk is spared them.
///
/// # Errors
/// Where it has ended, or the kernel does not count.
pub(crate) fn written_bytes(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).context("read what a process has written")?;
    field(&io, "write_bytes:").context("the kernel does not count what is written")
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes that all files in `folder` and below take on the disk.
///
/// # Errors
/// Where the folder cannot be read; a file that goes meanwhile is none.
pub(crate) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(metadata) => sum += metadata.blocks() * BLOCK_BYTES,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_and_writes_are_seen_and_those_of_no_process_are_not() {
        assert!(memory_bytes(std::process::id()).unwrap() > 0);
        assert!(written_bytes(std::process::id()).is_ok());
        assert!(memory_bytes(u32::MAX).is_err());
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let io = "wchar: 9\ncancelled_write_bytes: 30\nwrite_bytes: 100\n";
        assert_eq!(field(io, "write_bytes:"), Some(100));
        assert_eq!(field("State:\tZ (zombie)\n", "VmRSS:"), None);
    }

    #[test]
    fn files_of_all_folders_below_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        for name in ["a", "below/b"] {
            fs::write(folder.path().join(name), [1; 10_000]).unwrap();
        }
        // Some file systems give the blocks out later.
        for name in ["a", "below/b"] {
            fs::File::open(folder.path().join(name)).unwrap().sync_all().unwrap();
        }
        assert!(disk_bytes(folder.path()).unwrap() >= 20_000);
    }
}

//! One process at a time: a lock that the system drops with the process.

use std::{
    fs::{File, TryLockError},
    io,
};

use super::disk::{Disk, Trouble, TroubleKind};

const FILE_NAME: &str = "LOCK";

/// What the lock says.
#[derive(Debug)]
pub(super) enum Lock {
    /// Ours until this is dropped.
    Held { file: File },
    /// The directory cannot be written, by us or by anybody who is like us. The lock is ours if there is a file for it.
    Unwritable { file: Option<File>, trouble: Trouble },
    /// Another process has it.
    Taken,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let file = match self {
            Self::Held { file } => Some(file),
            Self::Unwritable { file, .. } => file.as_mut(),
            Self::Taken => None,
        };
        // Closing is not enough while a child that was just forked has the file open too.
        if let Some(Err(error)) = file.map(|file| file.unlock()) {
            tracing::debug!(%error, "the lock file was not unlocked");
        }
    }
}

/// Takes the lock of the directory.
pub(super) fn take(disk: &Disk) -> io::Result<Lock> {
    match disk.open_or_create(FILE_NAME) {
        Ok(file) => Ok(if is_ours(&file)? { Lock::Held { file } } else { Lock::Taken }),
        Err(error) => take_unwritable(disk, error),
    }
}

fn take_unwritable(disk: &Disk, error: io::Error) -> io::Result<Lock> {
    let trouble = Trouble::new("the lock file cannot be written", &error);
    let file = File::open(disk.path(FILE_NAME)).ok();
    if let Some(file) = &file
        && !is_ours(file)?
    {
        return Ok(Lock::Taken);
    }
    match trouble.kind {
        TroubleKind::ReadOnly | TroubleKind::Full => Ok(Lock::Unwritable { file, trouble }),
        TroubleKind::Io => Err(error),
    }
}

fn is_ours(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

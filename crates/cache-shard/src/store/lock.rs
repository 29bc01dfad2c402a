//! One process at a time: a lock that the system drops with the process.

use std::{
    fs::{File, TryLockError},
    io,
};

use super::disk::Disk;

/// On the directory itself, and so the same one whatever lies in it and whether it can be written.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while a child that was just forked has the directory open too.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the directory was not unlocked");
        }
    }
}

/// Takes the lock of the directory; `None` if another process has it.
pub(super) fn take(disk: &Disk) -> io::Result<Option<Lock>> {
    let directory = File::open(disk.directory())?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(Lock(directory))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

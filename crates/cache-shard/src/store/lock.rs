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
    Held { _file: File },
    /// The directory cannot be written, by anybody who is like us.
    Unneeded(Trouble),
    /// Another process has it.
    Taken,
}

/// Takes the lock of the directory.
pub(super) fn take(disk: &Disk) -> io::Result<Lock> {
    let file = match disk.open_or_create(FILE_NAME) {
        Ok(file) => file,
        Err(error) => match File::open(disk.path(FILE_NAME)) {
            Ok(file) => file,
            Err(_) => return read_only(error),
        },
    };
    match file.try_lock() {
        Ok(()) => Ok(Lock::Held { _file: file }),
        Err(TryLockError::WouldBlock) => Ok(Lock::Taken),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_only(error: io::Error) -> io::Result<Lock> {
    let trouble = Trouble::new("the lock file cannot be made", &error);
    match trouble.kind {
        TroubleKind::ReadOnly | TroubleKind::Full => Ok(Lock::Unneeded(trouble)),
        TroubleKind::Io => Err(error),
    }
}

//! What a disk has refused, until it takes it again.

use std::{io, sync::PoisonError};

use super::Store;

/// Why the store does not take what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No space left.
    Full,
    /// Not writable.
    ReadOnly,
    /// Anything else.
    Io,
}

/// A change that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What kind of failure it was.
    pub kind: TroubleKind,
    /// One sentence.
    pub message: String,
}

impl Trouble {
    pub(super) fn new(what: &str, error: &io::Error) -> Self {
        let is_among = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        let kind = if is_among(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]) {
            TroubleKind::Full
        } else if is_among(&[io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied]) {
            TroubleKind::ReadOnly
        } else {
            TroubleKind::Io
        };
        Self { kind, message: format!("{what}: {error}") }
    }
}

/// What may fail by itself: a system takes writes into its memory that the disk then refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Write,
    Sync,
}

/// The last failure of each kind of change; forgotten when one succeeds.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    write: Option<Trouble>,
    sync: Option<Trouble>,
}

impl Troubles {
    pub(super) fn first(&self) -> Option<&Trouble> {
        self.write.as_ref().or(self.sync.as_ref())
    }

    fn of(&mut self, change: Change) -> &mut Option<Trouble> {
        match change {
            Change::Write => &mut self.write,
            Change::Sync => &mut self.sync,
        }
    }
}

impl Store {
    /// Keeps a change's failure, and says once when it begins and ends.
    pub(super) fn note(&self, change: Change, changed: Result<(), &Trouble>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = troubles.of(change);
        let before = noted.as_ref().map(|trouble| trouble.kind);
        match (change, changed) {
            (Change::Write, Ok(())) if before.is_some() => tracing::info!("the disk takes writes again"),
            (Change::Sync, Ok(())) if before.is_some() => tracing::info!("fsync succeeds again"),
            (Change::Write, Err(trouble)) if before != Some(trouble.kind) => {
                tracing::warn!(%trouble, "the store is degraded: it answers and takes nothing new");
            }
            (Change::Sync, Err(trouble)) if before != Some(trouble.kind) => {
                tracing::warn!(%trouble, "the store is degraded: what is new may not survive a power cut");
            }
            (Change::Write | Change::Sync, _) => {}
        }
        *noted = changed.err().cloned();
    }

    /// Finds out whether the disk takes writes, so that a disk that recovered is seen without a caller's write.
    pub(super) fn probe(&self) {
        let is_synced = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).sync.is_some();
        let probed = self.disk.probe(is_synced);
        let probed = probed.map_err(|error| Trouble::new("the directory cannot be written", &error));
        self.note(Change::Write, probed.as_ref().copied());
        if is_synced && probed.is_ok() {
            self.note(Change::Sync, Ok(()));
        }
    }

    /// [`Self::probe`] if something was wrong.
    pub(super) fn probe_if_degraded(&self) {
        let is_degraded = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).first().is_some();
        if is_degraded {
            self.probe();
        }
    }
}

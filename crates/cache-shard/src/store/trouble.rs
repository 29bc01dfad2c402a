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

/// What each change has failed with; forgotten when it succeeds.
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
        // Of several of one kind the first one says most.
        let is_the_same = changed.is_err_and(|trouble| before == Some(trouble.kind));
        if !is_the_same {
            *noted = changed.err().cloned();
        }
    }

    /// Tries a change, and notes what comes of it.
    pub(super) fn probe(&self, change: Change) {
        let probed = self.disk.probe(change);
        let probed = probed.map_err(|error| Trouble::new("the directory cannot be written", &error));
        self.note(change, probed.as_ref().copied());
    }

    /// Tries what failed again, so that a disk that is well again is seen without a caller's write.
    pub(super) fn probe_what_failed(&self) {
        for change in [Change::Write, Change::Sync] {
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let has_failed = troubles.of(change).is_some();
            drop(troubles);
            if has_failed {
                self.probe(change);
            }
        }
    }
}

//! From memory to the disk itself. In the mode `always` whoever has written waits here; one of those who wait brings what
//! all of them have written to the disk, so that many writers share one fsync.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{
    Durability, Store, Writer,
    segment::Segment,
    sync::{Condvar, Mutex},
    trouble::{Change, Trouble},
};

/// Says how much had been written: all sequences below this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// Who has reached the disk itself.
#[derive(Debug, Default)]
pub(super) struct Commits {
    progress: Mutex<Progress>,
    moved_on: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    synced: Ticket,
    is_running: bool,
    /// What was written until then may not be on the disk: the system does not try again.
    failed: Option<(Ticket, Trouble)>,
}

impl Store {
    /// Waits until what `ticket` says is on the disk itself, where the mode asks for that.
    ///
    /// # Errors
    /// [`Trouble`] if it may not be.
    pub(super) fn commit(&self, ticket: Ticket) -> Result<(), Trouble> {
        if self.options.durability != Durability::Always {
            return Ok(());
        }
        let mut progress = self.commits.progress.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((_, trouble)) = progress.failed.as_ref().filter(|(until, _)| ticket <= *until) {
                return Err(trouble.clone());
            }
            if progress.synced >= ticket {
                return Ok(());
            }
            if !progress.is_running {
                break;
            }
            progress = self.commits.moved_on.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        progress.is_running = true;
        drop(progress);
        let (reached, synced) = self.sync();
        self.note(Change::Sync, synced.as_ref().copied());
        let mut progress = self.commits.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.is_running = false;
        match &synced {
            Ok(()) => progress.synced = progress.synced.max(reached),
            Err(trouble) => progress.failed = Some((reached, trouble.clone())),
        }
        self.commits.moved_on.notify_all();
        synced
    }

    /// Brings all that was written until now to the disk itself, beside those who write on.
    pub(super) fn sync(&self) -> (Ticket, Result<(), Trouble>) {
        let mut writer = self.lock_writer();
        let reached = writer.ticket();
        let unsynced = mem::take(&mut writer.unsynced);
        let is_directory_unsynced = mem::take(&mut writer.is_directory_unsynced);
        drop(writer);
        let synced = self.sync_files(&unsynced, is_directory_unsynced);
        if synced.is_err() {
            self.give_up_files(&mut self.lock_writer(), &unsynced, is_directory_unsynced);
        }
        (reached, synced)
    }

    /// The same for somebody who writes.
    pub(super) fn sync_written(&self, writer: &mut Writer) -> Result<(), Trouble> {
        let unsynced = mem::take(&mut writer.unsynced);
        let is_directory_unsynced = mem::take(&mut writer.is_directory_unsynced);
        let synced = self.sync_files(&unsynced, is_directory_unsynced);
        if synced.is_err() {
            self.give_up_files(writer, &unsynced, is_directory_unsynced);
        }
        synced
    }

    fn sync_files(&self, segments: &[Arc<Segment>], is_directory_unsynced: bool) -> Result<(), Trouble> {
        for segment in segments {
            segment.sync().map_err(|error| Trouble::new("a segment cannot be synced", &error))?;
        }
        if is_directory_unsynced {
            let synced = self.disk.sync_directory();
            synced.map_err(|error| Trouble::new("the directory cannot be synced", &error))?;
        }
        Ok(())
    }

    /// What the system could not write it will not try again: nothing more goes into these files.
    fn give_up_files(&self, writer: &mut Writer, segments: &[Arc<Segment>], is_directory_unsynced: bool) {
        for segment in segments {
            writer.actives[segment.class.index()].take_if(|active| active.segment.number == segment.number);
        }
        writer.is_directory_unsynced |= is_directory_unsynced;
    }
}

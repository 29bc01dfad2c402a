//! The thread beside a store: brings what was written to the disk itself, drops what has expired.

use std::{
    io, mem,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Durability, Store,
    trouble::{Change, Trouble},
};

/// Keeps a store until it is dropped; then once more, to the end.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the keeper's thread cannot be started: {0}")]
pub struct KeeperError(#[from] io::Error);

impl Keeper {
    /// Keeps `store` once each `interval`.
    ///
    /// # Errors
    /// [`KeeperError`] if the system gives no thread.
    pub fn start(store: Arc<Store>, interval: Duration) -> Result<Self, KeeperError> {
        let (stop, stopped) = mpsc::channel();
        let keep = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
                store.keep();
            }
            store.keep();
        };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(keep)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the keeper has panicked");
        }
    }
}

impl Store {
    /// One round: sync, drop what has expired, write what could not be written before, look whether a disk is well again.
    pub fn keep(&self) {
        if self.options.durability == Durability::Interval
            && let Err(trouble) = self.sync()
        {
            self.note(Change::Sync, Err(&trouble));
        }
        let mut writer = self.lock_writer();
        let now_ms = self.timeline.now_ms();
        // First what makes room.
        let dropped = self.drop_expired(&mut writer, now_ms);
        let kept = dropped.and(self.save_generations(&mut writer));
        drop(writer);
        match kept {
            Ok(()) => self.probe_what_failed(),
            Err(trouble) => self.note(Change::Write, Err(&trouble)),
        }
    }

    fn sync(&self) -> Result<(), Trouble> {
        let mut writer = self.lock_writer();
        let unsynced = mem::take(&mut writer.unsynced);
        let is_directory_unsynced = mem::take(&mut writer.is_directory_unsynced);
        drop(writer);
        let mut synced = Ok(());
        for segment in unsynced {
            if let Err(error) = segment.sync(&self.disk) {
                // What the system could not write it will not try again: nothing more goes into this file.
                let mut writer = self.lock_writer();
                writer.active.take_if(|active| active.segment.number == segment.number);
                synced = Err(Trouble::new("a segment cannot be synced", &error));
            }
        }
        if is_directory_unsynced && let Err(error) = self.disk.sync_directory() {
            self.lock_writer().is_directory_unsynced = true;
            synced = Err(Trouble::new("the directory cannot be synced", &error));
        }
        synced
    }
}

//! The thread beside a store: brings what was written to the disk itself, drops what has expired.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    Durability, Store, Writer,
    class::Class,
    eviction::is_mostly_dead,
    moving::{Because, Kept},
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
            store.close();
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
    /// One round: sync, drop what has expired, give back the space of what is dead, write what could not be written before,
    /// look whether a disk is well again.
    pub fn keep(&self) {
        if self.options.durability != Durability::Os
            && let (_, Err(trouble)) = self.sync()
        {
            self.note(Change::Sync, Err(&trouble));
        }
        let mut writer = self.lock_writer();
        // First what makes room.
        let kept = self
            .drop_expired(&mut writer)
            .and_then(|()| self.compact_one(&mut writer))
            .and_then(|()| self.give_more_time(&mut writer))
            .and_then(|()| self.save_generations(&mut writer));
        drop(writer);
        match kept {
            Ok(()) => self.probe_what_failed(),
            Err(trouble) => self.note(Change::Write, Err(&trouble)),
        }
    }

    /// Writes down what the segments hold that are not full, so that the next start need not scan them.
    pub fn close(&self) {
        let mut writer = self.lock_writer();
        for class in (0..Class::COUNT).filter_map(|index| Class::of_code(u8::try_from(index).ok()?)) {
            self.seal(&mut writer, class);
        }
    }

    /// Drops the segments all of whose records have expired.
    fn drop_expired(&self, writer: &mut Writer) -> Result<(), Trouble> {
        let now_ms = self.timeline.now_ms();
        let state = self.read_state();
        let vectors = state.segments.values().filter(|segment| segment.class != Class::REMOVALS);
        let expired: Vec<_> = vectors.filter(|segment| segment.expires_ms() <= now_ms).cloned().collect();
        drop(state);
        expired.iter().try_for_each(|segment| self.retire(writer, segment, Kept::Nothing, Because::Expired))
    }

    /// Writes what still lives of one segment once more, where most of it is dead; one a round, so that a round is short.
    fn compact_one(&self, writer: &mut Writer) -> Result<(), Trouble> {
        let state = self.read_state();
        let vectors = state.segments.values().filter(|segment| segment.class != Class::REMOVALS);
        let dead = vectors.filter(|segment| segment.records() > 0 && is_mostly_dead(segment));
        let found = dead.min_by_key(|segment| segment.live().1).cloned();
        drop(state);
        match found {
            Some(segment) => self.retire(writer, &segment, Kept::Everything, Because::MostlyDead),
            None => Ok(()),
        }
    }
}

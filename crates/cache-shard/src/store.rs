//! The store: an append-only log of records with an index in memory. It knows no network and no protobuf.
//!
//! ```text
//!  put ─▶ writer (one at a time) ─▶ budget: a segment goes ─▶ segment of its class: write(2) ─▶ index ─▶ commit ─▶ "accepted"
//!                                     └─ eviction ─▶ moving: what was visited goes to the tail
//!  get ─▶ index (a visit is noted) ─▶ segment: pread ─▶ record: checksum, whole key, namespace, generation ─▶ hit
//!  start ─▶ lock ─▶ recovery: contents of every segment, merged by sequence ─▶ index
//!  each interval ─▶ keeper: fsync, expired segments, segments that are mostly dead, generations
//! ```
//!
//! Goals: what is returned is what was put, or nothing; what was accepted survives the death of the process, and a power cut
//! as the mode says; what was removed or cleared does not come back; nothing that a disk does ends the process. Entries,
//! bytes, files and the memory of the index are bounded, exactly.
//!
//! Non-goals: exact least-recently-used order, replication.
//!
//! All calls block on the disk: call them from threads that may.

mod vector;

mod record;

mod class;

mod contents;

mod segment;

mod scan;

mod index;

mod sealed;

mod generations;

mod memos;

mod state;

mod clock;

mod vfs;

mod disk;

mod trouble;

mod recovery;

mod writing;

mod commit;

mod budget;

mod eviction;

mod moving;

mod reading;

mod sliding;

mod similar;

mod listing;

mod keeper;

mod stats;

mod sync;

#[cfg(any(test, fuzzing))]
#[expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "it is for tests outside of this crate, too"
)]
#[path = "../tests/shard/simulated.rs"]
mod simulated;

#[cfg(any(test, fuzzing))]
pub mod any_bytes;

#[cfg(test)]
mod interleavings;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

pub use budget::Budget;
pub use clock::{Clock, SystemClock};
pub use keeper::{Keeper, KeeperError};
pub use listing::{Cursor, Page};
pub use memos::{MEMO_BYTES_MAX, MEMO_NAME_BYTES_MAX, MEMOS_MAX, MemoError};
pub use reading::{Found, Located, Patience};
pub use similar::{Neighbour, Neighbours, Probe, SimilarError};
pub use sliding::TtlMode;
pub use stats::Stats;
pub use trouble::{Trouble, TroubleKind};
pub use vector::{
    Element, Hit, Identity, Invalid, Key, NAMESPACE_BYTES_MAX, NewRecord, Precision, TEXT_BYTES_MAX,
    TEXT_CHARACTERS_MAX, TTL_MAX, Vector, WIDTH_MAX,
};
pub use vfs::{Access, Kind, LockGuard, RealFs, Vfs, VfsFile};
pub use writing::{ChangeError, PutAnswer, PutError, PutOutcome};

use self::{
    class::Class,
    clock::Timeline,
    commit::Commits,
    disk::Disk,
    eviction::Credit,
    memos::Memos,
    segment::{Active, Segment},
    sliding::Wishes,
    state::State,
    stats::Counters,
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicBool},
    trouble::{Change, Troubles},
};

/// When what was written reaches the disk itself. Written it is before it is acknowledged, in all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the system likes: survives the death of the process, not a power cut.
    Os,
    /// Once each sync interval: a power cut costs at most what was written since.
    #[default]
    Interval,
    /// Before it is acknowledged: survives a power cut. Writers that come together share one fsync.
    Always,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it lies; made if it is not there. A [`RealFs`] outside of tests.
    pub vfs: Arc<dyn Vfs>,
    /// The bounds.
    pub budget: Budget,
    /// Time to live of records that name none.
    pub default_ttl: Duration,
    /// What a time to live means.
    pub ttl_mode: TtlMode,
    /// Each record is kept less than its time to live by up to so much of it.
    pub ttl_jitter_percent: u8,
    /// When what was written reaches the disk itself.
    pub durability: Durability,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Why a store is not opened. Nothing else that is in a directory refuses the start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made or listed.
    #[error("the directory `{path}` cannot be used: {error}")]
    Directory {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the directory `{path}` is in use by another process")]
    InUse {
        /// Its path.
        path: PathBuf,
    },
    /// A later version of this program has written it.
    #[error("`{path}` has format version {version}, this program reads up to version {known}", known = segment::FORMAT_VERSION)]
    NewerVersion {
        /// Path of the file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl OpenError {
    fn directory(disk: &Disk, error: io::Error) -> Self {
        Self::Directory { path: disk.vfs().path(), error }
    }
}

/// The store. Dropping it closes it.
#[derive(Debug)]
pub struct Store {
    options: Options,
    disk: Disk,
    timeline: Timeline,
    /// Taken before `state` where both are.
    writer: Mutex<Writer>,
    state: RwLock<State>,
    memos: Mutex<Memos>,
    commits: Commits,
    wishes: Mutex<Wishes>,
    /// Held by the one search that runs.
    search: Mutex<()>,
    troubles: Mutex<Troubles>,
    /// A record may be on the disk that the index does not lead to: one that could not be read, and may be another time.
    has_lost_sight: AtomicBool,
    counters: Counters,
    _lock: Lock,
}

/// What one writer at a time changes.
#[derive(Debug)]
struct Writer {
    /// The segment of each class that grows.
    actives: [Option<Active>; Class::COUNT],
    next_number: u32,
    next_sequence: u64,
    credit: Credit,
    generations_unsaved: bool,
    unsynced: Vec<Arc<Segment>>,
    is_directory_unsynced: bool,
}

/// Held, never looked at.
struct Lock(#[expect(dead_code, reason = "it unlocks when it is dropped")] LockGuard);

impl std::fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lock")
    }
}

impl Store {
    /// Opens the directory, reading the contents of every segment in it.
    ///
    /// # Errors
    /// [`OpenError`]; damage of whatever kind is none.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let disk = Disk::new(options.vfs.clone());
        options.vfs.create_directory().map_err(|error| OpenError::directory(&disk, error))?;
        let lock = options.vfs.lock().map_err(|error| OpenError::directory(&disk, error))?;
        let Some(lock) = lock else { return Err(OpenError::InUse { path: options.vfs.path() }) };
        let timeline = Timeline::new(options.clock.clone());
        let recovered = recovery::recover(&disk, &timeline)?;
        let memos = recovery::load_memos(&disk)?;
        let writer = Writer {
            actives: recovered.actives,
            next_number: recovered.next_number,
            next_sequence: recovered.next_sequence,
            credit: Credit::default(),
            generations_unsaved: recovered.generations_unsaved,
            // Whoever wrote them may have been killed before it could bring them to the disk itself.
            unsynced: recovered.state.segments.values().cloned().collect(),
            is_directory_unsynced: true,
        };
        let store = Self {
            disk,
            timeline,
            writer: Mutex::new(writer),
            state: RwLock::new(recovered.state),
            memos: Mutex::new(memos),
            commits: Commits::default(),
            wishes: Mutex::default(),
            search: Mutex::default(),
            troubles: Mutex::default(),
            has_lost_sight: AtomicBool::new(recovered.gaps > 0),
            counters: Counters::default(),
            options,
            _lock: Lock(lock),
        };
        store.counters.damaged_segments.add(recovered.damaged_segments);
        store.counters.damaged_records.add(recovered.gaps);
        store.settle();
        Ok(store)
    }

    /// After recovery: what cannot be done now is tried again with the first write.
    fn settle(&self) {
        let mut writer = self.lock_writer();
        let settled = self.shrink(&mut writer).and_then(|()| self.save_generations(&mut writer));
        match settled {
            Ok(()) => self.probe(Change::Write),
            Err(trouble) => self.note(Change::Write, Err(&trouble)),
        }
    }

    /// Drops what is over the budgets, after they were made smaller.
    fn shrink(&self, writer: &mut Writer) -> Result<(), trouble::Trouble> {
        while !self.is_within_budget() && self.give_up_one(writer)? {}
        Ok(())
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Stats {
        let state = self.read_state();
        let (usage, bytes, index_bytes) = (state.usage(), state.disk_bytes(), state.index().bytes());
        drop(state);
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            entries: usage.entries as u64,
            bytes,
            segments: usage.segments as u64,
            index_bytes: index_bytes as u64,
            degraded: troubles.first().map(Trouble::to_string),
            ..self.counters.read()
        }
    }

    /// Generation of `namespace`.
    pub fn generation(&self, namespace: &str) -> u64 {
        self.read_state().generations.of(namespace)
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

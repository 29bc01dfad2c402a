//! The store: an append-only log of records with an index in memory. It knows no network and no protobuf.
//!
//! ```text
//!  put ─▶ writer (one at a time) ─▶ budget: oldest segment goes ─▶ segment: write(2) ─▶ index ─▶ "accepted"
//!  get ─▶ index ─▶ segment: pread ─▶ record: checksum, whole key, namespace, generation ─▶ hit
//!  start ─▶ lock ─▶ recovery: every segment, begin to end ─▶ index
//!  each interval ─▶ keeper: fsync, expired segments, generations
//! ```
//!
//! Goals: what is returned is what was put, or nothing; what was accepted survives the death of the process; nothing that
//! a disk does ends the process. Entries, bytes and files are bounded.
//!
//! Non-goals: exact least-recently-used order (the oldest segment goes), compaction, replication.
//!
//! All calls block on the disk: call them from threads that may.

mod vector;

mod record;

mod segment;

mod scan;

mod index;

mod sealed;

mod generations;

mod memos;

mod clock;

mod disk;

mod trouble;

mod lock;

mod recovery;

mod budget;

mod reading;

mod writing;

mod keeper;

mod stats;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

pub use budget::Budget;
pub use clock::{Clock, SystemClock};
pub use disk::{Gate, Open, Refusal};
pub use keeper::{Keeper, KeeperError};
pub use memos::{MEMO_BYTES_MAX, MEMO_NAME_BYTES_MAX, MEMOS_MAX, MemoError};
pub use reading::Found;
pub use stats::Stats;
pub use trouble::{Trouble, TroubleKind};
pub use vector::{
    Element, Hit, Identity, Invalid, Key, NAMESPACE_BYTES_MAX, NewRecord, Precision, TTL_MAX, Vector,
    WIDTH_MAX,
};
pub use writing::{ChangeError, PutAnswer, PutError, PutOutcome};

use self::{
    clock::Timeline,
    disk::Disk,
    generations::Generations,
    index::Index,
    lock::Lock,
    memos::Memos,
    segment::{Active, Segment},
    stats::Counters,
    trouble::{Change, Troubles},
};

/// When what was written reaches the disk itself. Written it is before it is acknowledged, in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the system likes: survives the death of the process, not a power cut.
    Os,
    /// Once each sync interval: a power cut costs at most what was written since.
    #[default]
    Interval,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it lies; made if it is not there.
    pub directory: PathBuf,
    /// The bounds.
    pub budget: Budget,
    /// Time to live of records that name none.
    pub default_ttl: Duration,
    /// When what was written reaches the disk itself.
    pub durability: Durability,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Asked before each access of the directory's files; [`Open`] outside of tests.
    pub gate: Arc<dyn Gate>,
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
        Self::Directory { path: disk.directory().to_owned(), error }
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
    troubles: Mutex<Troubles>,
    counters: Counters,
    _lock: Lock,
}

/// What readers look at.
#[derive(Debug)]
struct State {
    index: Index,
    generations: Generations,
    segments: std::collections::BTreeMap<u32, Arc<Segment>>,
}

/// What one writer at a time changes.
#[derive(Debug)]
struct Writer {
    active: Option<Active>,
    next_number: u32,
    generations_unsaved: bool,
    unsynced: Vec<Arc<Segment>>,
    is_directory_unsynced: bool,
}

impl Store {
    /// Opens the directory, reading every record in it.
    ///
    /// # Errors
    /// [`OpenError`]; damage of whatever kind is none.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let disk = Disk::new(options.directory.clone(), options.gate.clone());
        disk.create_directory().map_err(|error| OpenError::directory(&disk, error))?;
        let lock = lock::take(&disk).map_err(|error| OpenError::directory(&disk, error))?;
        let Some(lock) = lock else { return Err(OpenError::InUse { path: options.directory }) };
        let timeline = Timeline::new(options.clock.clone());
        let recovered = recovery::recover(&disk, &timeline)?;
        let memos = recovery::load_memos(&disk)?;
        let store = Self {
            disk,
            timeline,
            writer: Mutex::new(Writer {
                active: recovered.active,
                next_number: recovered.next_number,
                generations_unsaved: recovered.generations_unsaved,
                unsynced: Vec::new(),
                is_directory_unsynced: false,
            }),
            state: RwLock::new(State {
                index: recovered.index,
                generations: recovered.generations,
                segments: recovered.segments,
            }),
            memos: Mutex::new(memos),
            troubles: Mutex::default(),
            counters: Counters::default(),
            options,
            _lock: lock,
        };
        store.counters.damaged_segments.add(recovered.damaged_segments);
        store.counters.damaged_records.add(recovered.gaps);
        store.settle();
        Ok(store)
    }

    /// After recovery: what cannot be done now is tried again with the first write.
    fn settle(&self) {
        let mut writer = self.lock_writer();
        let shrunk = self.shrink(&mut writer);
        match shrunk.and(self.save_generations(&mut writer)) {
            Ok(()) => self.probe(Change::Write),
            Err(trouble) => self.note(Change::Write, Err(&trouble)),
        }
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Stats {
        let (entries, bytes, segments) = self.usage();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            entries: entries as u64,
            bytes,
            segments: segments as u64,
            degraded: troubles.first().map(Trouble::to_string),
            ..self.counters.read()
        }
    }

    /// Generation of `namespace`.
    pub fn generation(&self, namespace: &str) -> u64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).generations.of(namespace)
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

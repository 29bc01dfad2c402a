//! Stores, records and clocks for the tests.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cache_shard::store::{
    Access, Budget, Clock, Durability, Element, Identity, Key, Kind, LockGuard, NewRecord, Options,
    Precision, RealFs, Store, TtlMode, Vector, Vfs, VfsFile,
};

pub const WIDTH: u32 = 16;
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A clock that a test moves.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000)))
    }

    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file system that takes so many bytes and then fails, until it is mended.
#[derive(Debug, Clone)]
pub struct Failing {
    real: RealFs,
    failures: Arc<Mutex<Failures>>,
}

#[derive(Debug, Default)]
struct Failures {
    write: Option<(usize, io::ErrorKind)>,
    is_full_once: bool,
    sync: bool,
    read: Option<Range<u64>>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn VfsFile>,
    is_segment: bool,
    failures: Arc<Mutex<Failures>>,
}

impl Failing {
    pub fn new(directory: &Path) -> Self {
        Self { real: RealFs::new(directory), failures: Arc::default() }
    }

    pub fn after(&self, bytes: usize, kind: io::ErrorKind) {
        self.failures.lock().unwrap().write = Some((bytes, kind));
    }

    /// Is full for one write, and has space again then.
    pub fn fail_write_once(&self) {
        self.failures.lock().unwrap().is_full_once = true;
    }

    pub fn fail_sync(&self) {
        self.failures.lock().unwrap().sync = true;
    }

    /// No byte of a segment in this range can be read.
    pub fn fail_read(&self, range: Range<u64>) {
        self.failures.lock().unwrap().read = Some(range);
    }

    pub fn mend(&self) {
        *self.failures.lock().unwrap() = Failures::default();
    }

    fn opened(&self, name: &str, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        let is_segment = name.ends_with(".seg");
        Arc::new(FailingFile { file, is_segment, failures: self.failures.clone() })
    }
}

impl Failures {
    /// How many of `bytes` still get through, where not all of them do.
    fn admit_write(&mut self, bytes: usize) -> Result<(), (usize, io::Error)> {
        if bytes > 0 && std::mem::take(&mut self.is_full_once) {
            return Err((0, io::ErrorKind::StorageFull.into()));
        }
        let Some((left, kind)) = self.write.as_mut() else { return Ok(()) };
        if bytes <= *left && *left > 0 {
            *left -= bytes;
            return Ok(());
        }
        Err((std::mem::take(left).min(bytes), (*kind).into()))
    }

    fn admit_change(&mut self) -> io::Result<()> {
        self.admit_write(0).map_err(|(_, error)| error)
    }

    fn admit_sync(&self) -> io::Result<()> {
        if self.sync { Err(eio()) } else { Ok(()) }
    }

    /// As a system does: what is before the bad block is read.
    fn admit_read(&self, offset: u64, bytes: usize) -> io::Result<usize> {
        match &self.read {
            Some(bad) if bad.contains(&offset) => Err(eio()),
            Some(bad) if offset < bad.start => {
                Ok(bytes.min(usize::try_from(bad.start - offset).unwrap_or(usize::MAX)))
            }
            Some(_) | None => Ok(bytes),
        }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl Vfs for Failing {
    fn path(&self) -> PathBuf {
        self.real.path()
    }

    fn create_directory(&self) -> io::Result<()> {
        self.real.create_directory()
    }

    fn lock(&self) -> io::Result<Option<LockGuard>> {
        self.real.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.real.list()
    }

    fn kind(&self, name: &str) -> io::Result<Kind> {
        self.real.kind(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        self.failures.lock().unwrap().admit_change()?;
        Ok(self.opened(name, self.real.create(name)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn VfsFile>> {
        if access == Access::Write {
            self.failures.lock().unwrap().admit_change()?;
        }
        Ok(self.opened(name, self.real.open(name, access)?))
    }

    fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        self.failures.lock().unwrap().admit_change()?;
        self.real.rename(name, next)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.failures.lock().unwrap().admit_change()?;
        self.real.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.failures.lock().unwrap().admit_sync()?;
        self.real.sync()
    }
}

impl VfsFile for FailingFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let admitted = match self.is_segment {
            true => self.failures.lock().unwrap().admit_read(offset, bytes.len())?,
            false => bytes.len(),
        };
        self.file.read_at(&mut bytes[..admitted], offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let admitted = self.failures.lock().unwrap().admit_write(bytes.len());
        admitted.or_else(|(written, error)| {
            self.file.write_at(&bytes[..written], offset)?;
            Err(error)
        })?;
        self.file.write_at(bytes, offset)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.failures.lock().unwrap().admit_sync()?;
        self.file.sync()
    }
}

/// Entries and bytes at most; segments of 1 MiB.
pub fn budget(entries_max: usize, bytes_max: u64) -> Budget {
    Budget { entries_max, bytes_max, segment_bytes_max: 1 << 20, index_bytes_max: 1 << 30 }
}

pub fn options(directory: &Path, clock: &TestClock) -> Options {
    Options {
        vfs: Arc::new(RealFs::new(directory)),
        budget: budget(10_000, 64 << 20),
        default_ttl: Duration::from_secs(60),
        ttl_mode: TtlMode::Absolute,
        ttl_jitter_percent: 0,
        durability: Durability::Interval,
        clock: Arc::new(clock.clone()),
    }
}

pub fn open(directory: &Path) -> Store {
    Store::open(options(directory, &TestClock::new())).unwrap()
}

pub fn key(number: u16) -> Key {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&number.to_le_bytes());
    key[30..].copy_from_slice(&number.to_le_bytes());
    Key(key)
}

/// The vector that belongs to a key and a class, so that a wrong one is seen.
pub fn vector(number: u16, precision: Precision) -> Vector {
    let class = f32::from(precision as u8);
    let numbers = (0..WIDTH).map(|index| f32::from(number) + class / 8.0 + index as f32 / 1024.0);
    Vector {
        identity: Identity([7; 32]),
        element: Element::Float32,
        precision,
        width: WIDTH,
        tokens: u32::from(number),
        truncated: number % 2 == 1,
        text: Bytes::new(),
        bytes: numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into(),
    }
}

pub fn record(number: u16) -> NewRecord {
    NewRecord { key: key(number), vector: vector(number, Precision::Float32), ttl: None }
}

/// Asks for one key.
pub fn get(store: &Store, namespace: &str, number: u16) -> Option<Vector> {
    let mut found = store.get_many(namespace, &[key(number)], ANSWER_BYTES_MAX);
    found.hits.pop().unwrap().map(|hit| hit.vector)
}

/// True for a hit with the right vector, false for a miss.
///
/// # Panics
/// For a wrong vector.
pub fn is_right_or_missing(store: &Store, namespace: &str, number: u16) -> bool {
    let found = get(store, namespace, number);
    if let Some(found) = &found {
        assert_eq!(*found, vector(number, Precision::Float32), "a wrong vector for {number}");
    }
    found.is_some()
}

/// The one segment of a directory.
pub fn segment_of(directory: &Path) -> std::path::PathBuf {
    directory.join("0000000000.seg")
}

/// A directory with one segment of `count` records, closed.
pub fn stocked(directory: &Path, count: u16) -> Bytes {
    let store = open(directory);
    let records: Vec<_> = (0..count).map(record).collect();
    store.put_many("n", &records, None);
    assert_eq!(store.stats().entries, u64::from(count));
    drop(store);
    std::fs::read(segment_of(directory)).unwrap().into()
}

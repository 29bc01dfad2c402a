//! Stores, records and clocks for the tests.

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cache_shard::store::{
    Budget, Clock, Durability, Element, Gate, Identity, Key, NewRecord, Open, Options, Precision, Refusal,
    Store, Vector,
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

/// A disk that takes so many bytes and then fails, until it is mended.
#[derive(Debug, Clone, Default)]
pub struct Failing(Arc<Mutex<Failures>>);

#[derive(Debug, Default)]
struct Failures {
    write: Option<(usize, io::ErrorKind)>,
    sync: bool,
    read: Option<Range<u64>>,
}

impl Failing {
    pub fn after(&self, bytes: usize, kind: io::ErrorKind) {
        self.0.lock().unwrap().write = Some((bytes, kind));
    }

    pub fn fail_sync(&self) {
        self.0.lock().unwrap().sync = true;
    }

    /// No byte of a segment in this range can be read.
    pub fn fail_read(&self, range: Range<u64>) {
        self.0.lock().unwrap().read = Some(range);
    }

    pub fn mend(&self) {
        *self.0.lock().unwrap() = Failures::default();
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl Gate for Failing {
    fn admit_write(&self, bytes: usize) -> Result<(), Refusal> {
        let mut failures = self.0.lock().unwrap();
        let Some((left, kind)) = failures.write.as_mut() else { return Ok(()) };
        if bytes <= *left && *left > 0 {
            *left -= bytes;
            return Ok(());
        }
        let written_bytes = std::mem::take(left).min(bytes);
        Err(Refusal { written_bytes, error: (*kind).into() })
    }

    fn admit_sync(&self) -> io::Result<()> {
        if self.0.lock().unwrap().sync { Err(eio()) } else { Ok(()) }
    }

    fn admit_read(&self, offset: u64, bytes: usize) -> io::Result<usize> {
        let failures = self.0.lock().unwrap();
        match &failures.read {
            Some(bad) if bad.contains(&offset) => Err(eio()),
            // As a system does: what is before the bad block is read.
            Some(bad) if offset < bad.start => {
                Ok(bytes.min(usize::try_from(bad.start - offset).unwrap_or(usize::MAX)))
            }
            Some(_) | None => Ok(bytes),
        }
    }
}

pub fn options(directory: &Path, clock: &TestClock) -> Options {
    Options {
        directory: directory.to_owned(),
        budget: Budget { entries_max: 10_000, bytes_max: 64 << 20, segment_bytes_max: 1 << 20 },
        default_ttl: Duration::from_secs(60),
        durability: Durability::Interval,
        clock: Arc::new(clock.clone()),
        gate: Arc::new(Open),
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

//! What the store counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Count,
    pub(super) misses: Count,
    pub(super) accepted: Count,
    pub(super) kept: Count,
    pub(super) refused: Count,
    pub(super) expired: Count,
    pub(super) evicted: Count,
    pub(super) damaged_records: Count,
    pub(super) damaged_segments: Count,
    pub(super) moved: Count,
    pub(super) put_bytes: Count,
    pub(super) written_bytes: Count,
}

/// Counts since the start, and sizes now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries that can be found, those included that expired and were not asked for since.
    pub entries: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments on the disk.
    pub segments: u64,
    /// Keys that were found.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Records that were written.
    pub accepted: u64,
    /// Records that were there already.
    pub kept: u64,
    /// Records that were refused.
    pub refused: u64,
    /// Entries whose time to live had passed when they were dropped.
    pub expired: u64,
    /// Entries that a budget pushed out.
    pub evicted: u64,
    /// Records that failed a check.
    pub damaged_records: u64,
    /// Segments that were set aside.
    pub damaged_segments: u64,
    /// Records that were written once more, because they were used or because most of their segment was dead.
    pub moved: u64,
    /// Bytes of the records that callers put.
    pub put_bytes: u64,
    /// Bytes of all that was written: records, those moved, contents.
    pub written_bytes: u64,
    /// Bytes of memory of the index.
    pub index_bytes: u64,
    /// What the disk refuses, if it does.
    pub degraded: Option<String>,
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        Stats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            accepted: self.accepted.get(),
            kept: self.kept.get(),
            refused: self.refused.get(),
            expired: self.expired.get(),
            evicted: self.evicted.get(),
            damaged_records: self.damaged_records.get(),
            damaged_segments: self.damaged_segments.get(),
            moved: self.moved.get(),
            put_bytes: self.put_bytes.get(),
            written_bytes: self.written_bytes.get(),
            ..Stats::default()
        }
    }
}

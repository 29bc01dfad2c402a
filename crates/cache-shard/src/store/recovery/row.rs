//! The segments of one class in the order in which they were filled, record by record.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::store::{
    clock::Timeline,
    contents::{CONTENTS_BYTES_CEILING, Contents, Entry, Space},
    disk::Disk,
    scan::scan,
    segment::{Active, HEADER_BYTES, Segment, contents_name, file_name},
};

/// Between two words about how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A record in its turn.
pub(super) struct Taken<'a> {
    pub(super) segment: &'a Segment,
    pub(super) entry: Entry,
    pub(super) space: &'a Space,
}

/// A row of segments, the contents of the first of them in memory.
#[derive(Debug, Default)]
pub(super) struct Row {
    waiting: VecDeque<Arc<Segment>>,
    current: Option<Current>,
    gaps: usize,
}

#[derive(Debug)]
struct Current {
    segment: Arc<Segment>,
    contents: Contents,
    next: usize,
    gaps: usize,
}

impl Row {
    pub(super) fn push(&mut self, segment: Arc<Segment>) {
        self.waiting.push_back(segment);
    }

    /// Sequence of the record whose turn it is.
    pub(super) fn sequence(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        current.contents.entries().get(current.next).map(|entry| entry.sequence)
    }

    /// That record.
    pub(super) fn take(&mut self) -> Option<Taken<'_>> {
        let current = self.current.as_mut()?;
        let entry = *current.contents.entries().get(current.next)?;
        current.next += 1;
        Some(Taken { segment: &current.segment, entry, space: current.contents.space(&entry)? })
    }

    /// Reads on where the current segment is at its end.
    pub(super) fn load(&mut self, disk: &Disk, timeline: &Timeline, progress: &mut Progress) {
        while self.sequence().is_none() {
            let Some(segment) = self.waiting.pop_front() else { return };
            let (contents, gaps) = read_contents(disk, &segment);
            timeline.has_been(contents.latest_created_ms());
            for entry in contents.entries() {
                segment.has_record(entry.sequence, entry.expires_ms);
            }
            self.gaps += gaps;
            self.current = Some(Current { segment, contents, next: 0, gaps });
            progress.step();
        }
    }

    /// Places where something was not a record.
    pub(super) fn gaps(&self) -> usize {
        self.gaps
    }

    /// The last segment, if more may be written to it: behind what is no record nothing more is written.
    pub(super) fn into_active(self) -> Option<Active> {
        let last = self.current.filter(|last| last.gaps == 0)?;
        Some(Active::resume(last.segment, last.contents))
    }
}

/// The contents of a segment: what the file beside it says, and what was written after that. The number of gaps.
pub(in crate::store) fn read_contents(disk: &Disk, segment: &Segment) -> (Contents, usize) {
    let name = contents_name(segment.number);
    let read = disk.read(&name, CONTENTS_BYTES_CEILING).inspect_err(|error| {
        tracing::warn!(%error, name, "the contents of a segment cannot be read: it is scanned");
    });
    let file = read.ok().flatten().unwrap_or_default();
    segment.has_contents_of(file.len() as u64);
    let decoded =
        Contents::decode(&file, segment.salt).ok().filter(|(_, covered)| *covered <= segment.bytes());
    if decoded.is_none() && !file.is_empty() {
        tracing::warn!(name, "the contents of a segment are damaged: it is scanned");
    }
    let (mut contents, covered) = decoded.unwrap_or_else(|| (Contents::default(), HEADER_BYTES as u64));
    let gaps = scan(segment, covered, |record, offset, length| {
        contents.add(record, offset, length);
    });
    segment.wants_contents_of(contents.file_bytes());
    if gaps > 0 {
        let path = disk.path(&file_name(segment.number));
        tracing::warn!(path = %path.display(), gaps, "parts of a segment are no records: torn or damaged");
    }
    (contents, gaps)
}

/// Says how far it is, once each interval.
#[derive(Debug)]
pub(super) struct Progress {
    said: Instant,
    done: usize,
    of: usize,
}

impl Progress {
    pub(super) fn new(of: usize) -> Self {
        Self { said: Instant::now(), done: 0, of }
    }

    fn step(&mut self) {
        self.done += 1;
        if self.said.elapsed() >= PROGRESS_INTERVAL {
            self.said = Instant::now();
            tracing::info!(segments = self.done, of = self.of, "recovering the store");
        }
    }
}

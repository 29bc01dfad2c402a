//! Looking keys up. What fails a check is a miss, and is forgotten.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Store,
    index::Location,
    record::{Content, RECORD_BYTES_MAX, Record, VECTOR_BYTES_MAX},
    segment::Segment,
    sync::atomic::Ordering,
    vector::{Hit, Key, Prefix, Vector},
};

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// One for each key, in the order of the keys.
    pub hits: Vec<Option<Hit>>,
    /// Generation of the namespace when it was looked at.
    pub generation: u64,
}

/// Whose record is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a str,
    pub(super) generation: u64,
    pub(super) now_ms: u64,
}

/// Why there is no hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// The entry leads nowhere: forget it.
    Stray,
    /// Another key begins with the same bytes: leave it.
    Elsewhere,
}

/// Where a record lies, and the file it lies in.
type Place = (Location, Arc<Segment>);

/// Keys on their way to their records.
#[derive(Debug)]
pub struct Located {
    namespace: Box<str>,
    generation: u64,
    now_ms: u64,
    /// One for each key, in the order of the keys.
    places: Vec<(Key, Option<Place>)>,
}

/// Whether a reader may wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// No: it is on a thread that others need.
    Now,
    /// Yes.
    Wait,
}

impl Store {
    /// Looks `keys` up, until the vectors found fill `vector_bytes_max`; the keys after that are misses.
    pub fn get_many(&self, namespace: &str, keys: &[Key], vector_bytes_max: usize) -> Found {
        let located = self.locate_many(namespace, keys);
        let found = self.read_many(&located, vector_bytes_max, Patience::Wait);
        found.unwrap_or_else(|| Found { hits: Vec::new(), generation: located.generation })
    }

    /// Where the records of `keys` lie. Waits for nothing but other threads.
    pub fn locate_many(&self, namespace: &str, keys: &[Key]) -> Located {
        let state = self.read_state();
        let locate = |key: &Key| {
            let location = state.index().visit(namespace, &Prefix::of(key))?;
            Some((location, state.segments.get(&location.segment)?.clone()))
        };
        let places = keys.iter().map(|key| (*key, locate(key))).collect();
        let generation = state.generations.of(namespace);
        drop(state);
        Located { namespace: namespace.into(), generation, now_ms: self.timeline.now_ms(), places }
    }

    /// Reads what was located; none where that would wait for a disk and nobody may, which changes nothing.
    pub fn read_many(&self, located: &Located, vector_bytes_max: usize, patience: Patience) -> Option<Found> {
        let records = read_records(located, vector_bytes_max, patience)?;
        let generation = located.generation;
        let asked = Asked { namespace: &located.namespace, generation, now_ms: located.now_ms };
        let mut bytes_left = vector_bytes_max;
        let hits: Vec<_> = located
            .places
            .iter()
            .zip(records)
            .map(|((key, place), record)| {
                let (location, segment) = place.as_ref().filter(|_| bytes_left > 0)?;
                let hit = self.check(asked, key, *location, segment, record?)?;
                bytes_left = bytes_left.checked_sub(hit.vector.bytes.len()).or_else(|| {
                    bytes_left = 0;
                    None
                })?;
                Some(hit)
            })
            .collect();
        let found = hits.iter().flatten().count();
        self.counters.hits.add(found);
        self.counters.misses.add(located.places.len() - found);
        Some(Found { hits, generation })
    }

    fn check(
        &self,
        asked: Asked<'_>,
        key: &Key,
        location: Location,
        segment: &Segment,
        bytes: io::Result<Bytes>,
    ) -> Option<Hit> {
        let read = if location.expires_ms <= asked.now_ms {
            self.counters.expired.add(1);
            Err(Miss::Stray)
        } else {
            let read = decode(asked, key, location, segment, bytes);
            if read == Err(Miss::Stray) {
                self.counters.damaged_records.add(1);
                self.has_lost_sight.store(true, Ordering::Relaxed);
            }
            read
        };
        match read {
            Ok(hit) => {
                self.wants_more_time(asked.namespace, key, &hit);
                Some(hit)
            }
            Err(Miss::Elsewhere) => None,
            Err(Miss::Stray) => {
                self.write_state().forget_exactly(asked.namespace, &Prefix::of(key), location);
                None
            }
        }
    }

    /// Where the record of a key lies, without a visit.
    pub(super) fn locate(&self, namespace: &str, prefix: &Prefix) -> Option<(Location, Arc<Segment>)> {
        let state = self.read_state();
        let location = state.index().find(namespace, prefix)?;
        Some((location, state.segments.get(&location.segment)?.clone()))
    }
}

/// The bytes of each record that was located, one after another in one piece of memory; none where that would wait and
/// nobody may. What vectors would not fill is not read.
fn read_records(
    located: &Located,
    vector_bytes_max: usize,
    patience: Patience,
) -> Option<Vec<Option<io::Result<Bytes>>>> {
    // Of what was read beyond the vectors that may be answered, heads and texts are the most.
    let heads_bytes = located.places.len() * (RECORD_BYTES_MAX - VECTOR_BYTES_MAX);
    let bytes_max = vector_bytes_max.saturating_add(heads_bytes);
    let mut end = 0;
    let ranges: Vec<_> = located
        .places
        .iter()
        .map(|(_, place)| {
            let (location, segment) = place.as_ref().filter(|_| end < bytes_max)?;
            let start = end;
            end += location.bytes as usize;
            Some((start..end, location, segment))
        })
        .collect();
    let mut memory = vec![0; end];
    let mut errors = Vec::new();
    for (range, location, segment) in ranges.iter().flatten() {
        let (offset, bytes) = (u64::from(location.offset), &mut memory[range.clone()]);
        let read = match patience {
            Patience::Wait => segment.read_into(offset, bytes).map(|()| true),
            Patience::Now => segment.read_into_now(offset, bytes),
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => errors.push((range.start, error)),
        }
    }
    let memory = Bytes::from(memory);
    let mut errors = errors.into_iter().peekable();
    let record = |range: Option<(std::ops::Range<usize>, &Location, &Arc<Segment>)>| {
        let (range, ..) = range?;
        let error = errors.next_if(|(start, _)| *start == range.start);
        Some(error.map_or_else(|| Ok(memory.slice(range)), |(_, error)| Err(error)))
    };
    Some(ranges.into_iter().map(record).collect())
}

/// The record of `key` that `location` leads to, checked.
pub(super) fn read_record(
    asked: Asked<'_>,
    key: &Key,
    location: Location,
    segment: &Segment,
) -> Result<Hit, Miss> {
    let bytes = segment.read(location.offset.into(), location.bytes as usize);
    decode(asked, key, location, segment, bytes.map(Bytes::from))
}

fn decode(
    asked: Asked<'_>,
    key: &Key,
    location: Location,
    segment: &Segment,
    bytes: io::Result<Bytes>,
) -> Result<Hit, Miss> {
    let offset = u64::from(location.offset);
    let bytes = bytes.map_err(|error| {
        // Forgotten even if the disk may read it later: while it counts as there, no put would replace it.
        tracing::warn!(%error, segment = segment.number, offset, "a record cannot be read");
        Miss::Stray
    })?;
    let Ok((record, _)) = Record::decode(&bytes, segment.seat(offset)) else {
        tracing::warn!(segment = segment.number, offset, "a record is damaged");
        return Err(Miss::Stray);
    };
    if record.key != *key {
        return Err(Miss::Elsewhere);
    }
    let is_wanted = record.namespace == asked.namespace
        && record.generation == asked.generation
        && record.expires_ms == location.expires_ms;
    if !is_wanted {
        return Err(Miss::Stray);
    }
    hit_of(&record, &bytes, asked.now_ms).ok_or(Miss::Stray)
}

/// The hit that a record is which lies in `bytes`, sharing them; none of a removal.
pub(super) fn hit_of(record: &Record<'_>, bytes: &Bytes, now_ms: u64) -> Option<Hit> {
    let remaining = Duration::from_millis(record.expires_ms.saturating_sub(now_ms));
    let ttl = Duration::from_millis(record.ttl_ms);
    Some(Hit { vector: vector_of(record, bytes)?, created_ms: record.created_ms, remaining, ttl })
}

fn vector_of(record: &Record<'_>, bytes: &Bytes) -> Option<Vector> {
    let Content::Vector { identity, element, precision, width, tokens, truncated, text, bytes: numbers } =
        record.content
    else {
        return None;
    };
    // An empty part of a slice is none that can be found in it.
    let text = if text.is_empty() { Bytes::new() } else { bytes.slice_ref(text) };
    let bytes = bytes.slice_ref(numbers);
    Some(Vector { identity, element, precision, width, tokens, truncated, text, bytes })
}

//! Looking keys up. What fails a check is a miss, and is forgotten.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Store,
    index::Location,
    record::{Content, Record},
    segment::Segment,
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

impl Store {
    /// Looks `keys` up, until the vectors found fill `vector_bytes_max`; the keys after that are misses.
    pub fn get_many(&self, namespace: &str, keys: &[Key], vector_bytes_max: usize) -> Found {
        let state = self.read_state();
        let generation = state.generations.of(namespace);
        let locate = |key: &Key| {
            let location = state.index().visit(namespace, &Prefix::of(key))?;
            Some((location, state.segments.get(&location.segment)?.clone()))
        };
        let located: Vec<_> = keys.iter().map(locate).collect();
        drop(state);
        let asked = Asked { namespace, generation, now_ms: self.timeline.now_ms() };
        let mut bytes_left = vector_bytes_max;
        let hits: Vec<_> = keys
            .iter()
            .zip(located)
            .map(|(key, located)| {
                let (location, segment) = located.filter(|_| bytes_left > 0)?;
                let hit = self.read(asked, key, location, &segment)?;
                bytes_left = bytes_left.checked_sub(hit.vector.bytes.len()).or_else(|| {
                    bytes_left = 0;
                    None
                })?;
                Some(hit)
            })
            .collect();
        let found = hits.iter().flatten().count();
        self.counters.hits.add(found);
        self.counters.misses.add(keys.len() - found);
        Found { hits, generation }
    }

    fn read(&self, asked: Asked<'_>, key: &Key, location: Location, segment: &Segment) -> Option<Hit> {
        let read = if location.expires_ms <= asked.now_ms {
            self.counters.expired.add(1);
            Err(Miss::Stray)
        } else {
            let read = read_record(asked, key, location, segment);
            self.counters.damaged_records.add(usize::from(read == Err(Miss::Stray)));
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

/// The record of `key` that `location` leads to, checked.
pub(super) fn read_record(
    asked: Asked<'_>,
    key: &Key,
    location: Location,
    segment: &Segment,
) -> Result<Hit, Miss> {
    let offset = u64::from(location.offset);
    let bytes = segment.read(offset, location.bytes as usize).map_err(|error| {
        // Forgotten even if the disk may read it later: while it counts as there, no put would replace it.
        tracing::warn!(%error, segment = segment.number, offset, "a record cannot be read");
        Miss::Stray
    })?;
    let bytes = Bytes::from(bytes);
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

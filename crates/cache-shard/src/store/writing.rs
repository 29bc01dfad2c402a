//! Storing, removing, clearing: one writer at a time, each record written before it is acknowledged.

use std::sync::{Arc, PoisonError};

use super::{
    Durability, Store, Writer,
    budget::Because,
    clock::milliseconds,
    generations::{self, Cleared},
    index::Location,
    record::{Content, Record},
    segment::Segment,
    trouble::{Change, Trouble, TroubleKind},
    vector::{Invalid, Key, NAMESPACE_BYTES_MAX, NewRecord, TTL_MAX},
};

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Written.
    Accepted,
    /// Not written: one of an equal or higher precision class is there.
    Kept,
    /// Not written.
    Refused(PutError),
}

/// Why a record is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It is outside its limits.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] Trouble),
    /// It does not fit the bounds of this store.
    #[error("{0}")]
    OverBudget(String),
    /// The namespace was cleared since.
    #[error("the namespace is at generation {now}, the caller saw {expected}")]
    Stale {
        /// Generation of the namespace.
        now: u64,
        /// The one the caller saw.
        expected: u64,
    },
}

/// What became of the records of a call.
#[derive(Debug)]
pub struct PutAnswer {
    /// One for each record, in the order of the records.
    pub outcomes: Vec<PutOutcome>,
    /// Generation they belong to.
    pub generation: u64,
}

/// A removal or clear that is true now, and could not be written for the next start.
#[derive(Debug, thiserror::Error)]
#[error("done until the next start only: {0}")]
pub struct ChangeError(pub Trouble);

impl Store {
    /// Stores `records`. `expected_generation`: what the caller saw before it computed them, if it wants that checked.
    pub fn put_many(
        &self,
        namespace: &str,
        records: &[NewRecord],
        expected_generation: Option<u64>,
    ) -> PutAnswer {
        let mut writer = self.lock_writer();
        let generation = self.generation(namespace);
        let stale = expected_generation.filter(|expected| *expected != generation);
        let mut halt = stale.map(|expected| PutError::Stale { now: generation, expected });
        let outcomes = records.iter().map(|record| {
            let put = match &halt {
                Some(error) => Err(error.clone()),
                None => self.put(&mut writer, namespace, generation, record),
            };
            let outcome = put.unwrap_or_else(|error| {
                // What failed for one record would fail for the next one too: the disk is asked once a call.
                if let PutError::Disk(_) = &error {
                    halt = Some(error.clone());
                }
                PutOutcome::Refused(error)
            });
            match outcome {
                PutOutcome::Accepted => self.counters.accepted.add(1),
                PutOutcome::Kept => self.counters.kept.add(1),
                PutOutcome::Refused(_) => self.counters.refused.add(1),
            }
            outcome
        });
        let outcomes = outcomes.collect();
        PutAnswer { outcomes, generation }
    }

    fn put(
        &self,
        writer: &mut Writer,
        namespace: &str,
        generation: u64,
        new: &NewRecord,
    ) -> Result<PutOutcome, PutError> {
        new.vector.check()?;
        let ttl = new.ttl.unwrap_or(self.options.default_ttl);
        if ttl.as_millis() == 0 || ttl > TTL_MAX {
            return Err(Invalid::Ttl(ttl.as_millis()).into());
        }
        let now_ms = self.timeline.now_ms();
        let vector = &new.vector;
        if !self.is_wanted(namespace, new, now_ms)? {
            return Ok(PutOutcome::Kept);
        }
        let record = Record {
            namespace,
            generation,
            key: new.key,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(milliseconds(ttl)),
            content: Content::Vector {
                identity: vector.identity,
                element: vector.element,
                precision: vector.precision,
                width: vector.width,
                tokens: vector.tokens,
                truncated: vector.truncated,
                bytes: &vector.bytes,
            },
        };
        let (segment, offset, bytes) = self.append(writer, &record)?;
        let (precision, expires_ms) = (vector.precision, record.expires_ms);
        let location = Location { segment, offset, bytes, precision, expires_ms };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.index.insert(namespace, &new.key, location);
        Ok(PutOutcome::Accepted)
    }

    /// False if a record that is as good is there.
    fn is_wanted(&self, namespace: &str, new: &NewRecord, now_ms: u64) -> Result<bool, PutError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let there = state.index.find(namespace, &new.key).filter(|location| location.expires_ms > now_ms);
        if there.is_some_and(|location| !location.precision.makes_way_for(new.vector.precision)) {
            return Ok(false);
        }
        let is_short = namespace.len() <= NAMESPACE_BYTES_MAX;
        match is_short && state.index.has_room_for(namespace) {
            true => Ok(true),
            false => Err(PutError::OverBudget(format!("there is no room for the namespace `{namespace}`"))),
        }
    }

    /// Writes a record; where it stands.
    fn append(&self, writer: &mut Writer, record: &Record<'_>) -> Result<(u32, u32, u32), PutError> {
        let appended = self.try_append(writer, record);
        match &appended {
            Ok(_) => self.note(Change::Write, Ok(())),
            Err(PutError::Disk(trouble)) => self.note(Change::Write, Err(trouble)),
            Err(_) => {}
        }
        appended
    }

    fn try_append(&self, writer: &mut Writer, record: &Record<'_>) -> Result<(u32, u32, u32), PutError> {
        // Until they are, no record may count on its generation.
        self.save_generations(writer)?;
        let mut active = self.make_room(writer, record.encoded_bytes())?;
        let segment = active.segment.clone();
        let offset = segment.bytes();
        let bytes = record.encode(segment.seat(offset));
        let too_long = |_| PutError::OverBudget("a segment is longer than its index can say".to_owned());
        let place = (
            segment.number,
            u32::try_from(offset).map_err(too_long)?,
            u32::try_from(bytes.len()).map_err(too_long)?,
        );
        let appended = active.append(&self.disk, &bytes).map_err(|unwritten| {
            let trouble = Trouble::new("a record cannot be written", &unwritten.error);
            (trouble, unwritten.is_cut)
        });
        match appended {
            Ok(()) => writer.active = Some(active),
            Err((trouble, is_cut)) => {
                // Behind what is no record nothing more is written, and where a disk is broken the next segment may not be.
                writer.active = Some(active).filter(|_| is_cut && trouble.kind != TroubleKind::Io);
                return Err(trouble.into());
            }
        }
        segment.expires_not_before(record.expires_ms);
        if self.options.durability == Durability::Interval {
            writer.is_unsynced(&segment);
        }
        Ok(place)
    }

    /// Forgets `keys`; how many were there.
    ///
    /// # Errors
    /// [`ChangeError`] if they are forgotten until the next start only.
    pub fn remove_many(&self, namespace: &str, keys: &[Key]) -> Result<usize, ChangeError> {
        let mut writer = self.lock_writer();
        let mut failure = None;
        let mut removed = 0;
        for key in keys {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let was_there = state.index.remove(namespace, key);
            let generation = state.generations.of(namespace);
            drop(state);
            if !was_there {
                continue;
            }
            removed += 1;
            let record = removal(namespace, generation, *key);
            if failure.is_none() {
                failure = self.append(&mut writer, &record).err();
            }
        }
        match failure {
            None => Ok(removed),
            Some(PutError::Disk(trouble)) => Err(ChangeError(trouble)),
            Some(error) => {
                let error = std::io::Error::other(error.to_string());
                Err(ChangeError(Trouble::new("a removal cannot be written", &error)))
            }
        }
    }

    /// Forgets a namespace in constant time; its new generation.
    ///
    /// # Errors
    /// [`ChangeError`] if it is forgotten until the next start only.
    pub fn clear(&self, namespace: &str) -> Result<u64, ChangeError> {
        let mut writer = self.lock_writer();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten = match state.generations.advance(namespace) {
            Cleared::Namespace => Some(state.index.take_namespace(namespace)),
            Cleared::Everything => {
                state.index.clear();
                None
            }
        };
        let generation = state.generations.of(namespace);
        drop(state);
        // Freed here, where no reader waits.
        drop(forgotten);
        writer.generations_unsaved = true;
        let saved = self.save_generations(&mut writer).or_else(|trouble| match trouble.kind {
            // A full disk is a good reason to clear: the little space this takes comes from the oldest segment.
            TroubleKind::Full if self.drop_oldest(&mut writer, Because::OverBudget)? => {
                self.save_generations(&mut writer)
            }
            TroubleKind::Full | TroubleKind::ReadOnly | TroubleKind::Io => Err(trouble),
        });
        self.note(Change::Write, saved.as_ref().copied());
        saved.map(|()| generation).map_err(ChangeError)
    }

    pub(super) fn save_generations(&self, writer: &mut Writer) -> Result<(), Trouble> {
        if !writer.generations_unsaved {
            return Ok(());
        }
        let contents = self.state.read().unwrap_or_else(PoisonError::into_inner).generations.encode();
        let saved = self.disk.replace(generations::FILE_NAME, contents.as_bytes());
        saved.map_err(|error| Trouble::new("the generations cannot be written", &error))?;
        writer.generations_unsaved = false;
        Ok(())
    }
}

impl Writer {
    fn is_unsynced(&mut self, segment: &Arc<Segment>) {
        if self.unsynced.last().is_none_or(|last| last.number != segment.number) {
            self.unsynced.push(segment.clone());
        }
    }
}

/// It holds until its segment is dropped, and by then every older one is gone.
fn removal(namespace: &str, generation: u64, key: Key) -> Record<'_> {
    Record { namespace, generation, key, created_ms: 0, expires_ms: 0, content: Content::Removal }
}

//! Storing, removing, clearing: one writer at a time, each record written before it is acknowledged.

use std::{sync::Arc, time::Duration};

use super::{
    Durability, Store, Writer,
    class::Class,
    clock::milliseconds,
    commit::Ticket,
    generations,
    index::Location,
    record::{Content, Record},
    segment::Segment,
    sync::atomic::Ordering,
    trouble::{Change, Trouble, TroubleKind},
    vector::{Invalid, Key, NAMESPACE_BYTES_MAX, NewRecord, Precision, Prefix, TTL_MAX},
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
            put.unwrap_or_else(|error| {
                // What failed for one record would fail for the next one too: the disk is asked once a call.
                if let PutError::Disk(_) = &error {
                    halt = Some(error.clone());
                }
                PutOutcome::Refused(error)
            })
        });
        let mut outcomes: Vec<_> = outcomes.collect();
        let ticket = writer.ticket();
        drop(writer);
        self.commit_puts(ticket, &mut outcomes);
        outcomes.iter().for_each(|outcome| self.count(outcome));
        PutAnswer { outcomes, generation }
    }

    /// Where every write is brought to the disk itself before it is acknowledged, what could not be is refused.
    fn commit_puts(&self, ticket: Ticket, outcomes: &mut [PutOutcome]) {
        if !outcomes.contains(&PutOutcome::Accepted) {
            return;
        }
        if let Err(trouble) = self.commit(ticket) {
            for outcome in outcomes.iter_mut().filter(|outcome| **outcome == PutOutcome::Accepted) {
                *outcome = PutOutcome::Refused(PutError::Disk(trouble.clone()));
            }
        }
    }

    fn count(&self, outcome: &PutOutcome) {
        match outcome {
            PutOutcome::Accepted => self.counters.accepted.add(1),
            PutOutcome::Kept => self.counters.kept.add(1),
            PutOutcome::Refused(_) => self.counters.refused.add(1),
        }
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
        if !self.is_wanted(namespace, new, now_ms)? {
            return Ok(PutOutcome::Kept);
        }
        self.remove_what_stands(writer, namespace, generation, &new.key, now_ms)?;
        let vector = &new.vector;
        let record = Record {
            namespace,
            sequence: writer.next_sequence,
            generation,
            key: new.key,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(self.jittered_ms(&new.key, ttl)),
            ttl_ms: milliseconds(ttl),
            content: Content::of(vector),
        };
        let class = Class::of_remaining(ttl);
        let location = self.append(writer, &record, class, vector.precision)?;
        self.counters.put_bytes.add(location.bytes as usize);
        writer.credit.earn(location.bytes.into(), self.options.budget.segment_bytes());
        self.write_state().point(namespace, &Prefix::of(&new.key), location);
        Ok(PutOutcome::Accepted)
    }

    /// A record that makes way for one of a higher class is removed like any other: if the new one goes first, because it
    /// expires or is evicted, the next start would find the old one again, and a removal asked for meanwhile finds neither.
    fn remove_what_stands(
        &self,
        writer: &mut Writer,
        namespace: &str,
        generation: u64,
        key: &Key,
        now_ms: u64,
    ) -> Result<(), PutError> {
        let there = self.read_state().index().find(namespace, &Prefix::of(key));
        if there.is_none_or(|location| location.expires_ms <= now_ms) {
            return Ok(());
        }
        let record = removal(namespace, generation, *key);
        self.append(writer, &record, Class::REMOVALS, Precision::Int8).map(drop)
    }

    /// A little less than `ttl`, so that what came together does not go together: by up to the jitter, as the key says.
    pub(super) fn jittered_ms(&self, key: &Key, ttl: Duration) -> u64 {
        let ttl_ms = milliseconds(ttl);
        let part = u64::from(u16::from_le_bytes([key.0[30], key.0[31]]));
        // At most a tenth of at most ten years, times 16 bits: far below 64 bits.
        let most = u64::from(self.options.ttl_jitter_percent.min(100)) * ttl_ms / 100;
        (ttl_ms - most * part / (1 << 16)).max(1)
    }

    /// False if a record that is as good is there.
    fn is_wanted(&self, namespace: &str, new: &NewRecord, now_ms: u64) -> Result<bool, PutError> {
        let mut state = self.write_state();
        let there = state.index().find(namespace, &Prefix::of(&new.key));
        let there = there.filter(|location| location.expires_ms > now_ms);
        if there.is_some_and(|location| !location.precision.makes_way_for(new.vector.precision)) {
            return Ok(false);
        }
        match namespace.len() <= NAMESPACE_BYTES_MAX && state.has_room_for(namespace) {
            true => Ok(true),
            false => Err(PutError::OverBudget(format!("there is no room for the namespace `{namespace}`"))),
        }
    }

    /// Writes a record that somebody put, after whatever has to go for it; where it lies.
    pub(super) fn append(
        &self,
        writer: &mut Writer,
        record: &Record<'_>,
        class: Class,
        precision: Precision,
    ) -> Result<Location, PutError> {
        let appended = self.make_room(writer, class, record.encoded_bytes()).and_then(|()| {
            // What had to go may have been moved, under numbers of its own.
            let record = Record { sequence: writer.next_sequence, ..*record };
            self.write(writer, &record, class, precision)
        });
        match &appended {
            Ok(_) => self.note(Change::Write, Ok(())),
            Err(PutError::Disk(trouble)) => self.note(Change::Write, Err(trouble)),
            Err(_) => {}
        }
        appended
    }

    /// Writes a record into the active segment of its class, which has room for it.
    pub(super) fn write(
        &self,
        writer: &mut Writer,
        record: &Record<'_>,
        class: Class,
        precision: Precision,
    ) -> Result<Location, PutError> {
        // Until they are, no record may count on its generation.
        self.save_generations(writer)?;
        let mut active = match writer.actives[class.index()].take() {
            Some(active) => active,
            None => self.start_segment(writer, class)?,
        };
        let segment = active.segment.clone();
        let offset = segment.bytes();
        let bytes = record.encode(segment.seat(offset));
        let too_long = |_| PutError::OverBudget("a segment is longer than its index can say".to_owned());
        let location = Location {
            segment: segment.number,
            offset: u32::try_from(offset).map_err(too_long)?,
            bytes: u32::try_from(bytes.len()).map_err(too_long)?,
            precision,
            expires_ms: record.expires_ms,
        };
        let appended = active.append(&self.disk, record, &bytes);
        match appended {
            Ok(()) => writer.actives[class.index()] = Some(active),
            Err(unwritten) => {
                let trouble = Trouble::new("a record cannot be written", &unwritten.error);
                // Behind what is no record nothing more is written, and where a disk is broken the next segment may not be.
                let is_whole = unwritten.is_cut && trouble.kind != TroubleKind::Io;
                writer.actives[class.index()] = Some(active).filter(|_| is_whole);
                return Err(trouble.into());
            }
        }
        writer.next_sequence += 1;
        self.counters.written_bytes.add(bytes.len());
        writer.has_written(&segment, self.options.durability);
        Ok(location)
    }

    /// Forgets `keys`; how many were there and had not expired.
    ///
    /// # Errors
    /// [`ChangeError`] if they are forgotten until the next start only.
    pub fn remove_many(&self, namespace: &str, keys: &[Key]) -> Result<usize, ChangeError> {
        let mut writer = self.lock_writer();
        let now_ms = self.timeline.now_ms();
        let mut failure = None;
        let (mut removed, mut written) = (0, 0);
        for key in keys {
            let mut state = self.write_state();
            let there = state.forget(namespace, &Prefix::of(key));
            let generation = state.generations.of(namespace);
            drop(state);
            // What could not be read may be read after the next start, so its removal is written unseen.
            if there.is_none() && !self.has_lost_sight.load(Ordering::Relaxed) {
                continue;
            }
            written += 1;
            removed += usize::from(there.is_some_and(|location| location.expires_ms > now_ms));
            if failure.is_none() {
                let record = removal(namespace, generation, *key);
                // The precision is that of no vector: nothing will lead to this record.
                failure = self.append(&mut writer, &record, Class::REMOVALS, Precision::Int8).err();
            }
        }
        let ticket = writer.ticket();
        drop(writer);
        match failure {
            None if written > 0 => self.commit(ticket).map(|()| removed).map_err(ChangeError),
            None => Ok(0),
            Some(PutError::Disk(trouble)) => Err(ChangeError(trouble)),
            Some(error) => {
                let error = std::io::Error::other(error.to_string());
                Err(ChangeError(Trouble::new("a removal cannot be written", &error)))
            }
        }
    }

    /// Forgets a namespace: the truth of it is one number. What it held is freed and counted afterwards, where no reader
    /// waits. Its new generation.
    ///
    /// # Errors
    /// [`ChangeError`] if it is forgotten until the next start only.
    pub fn clear(&self, namespace: &str) -> Result<u64, ChangeError> {
        let mut writer = self.lock_writer();
        let mut state = self.write_state();
        let forgotten = state.clear(namespace);
        let generation = state.generations.of(namespace);
        drop(state);
        let state = self.read_state();
        forgotten.iter().for_each(|entries| state.are_dead(entries));
        drop(state);
        drop(forgotten);
        writer.generations_unsaved = true;
        let saved = self.save_generations(&mut writer).or_else(|trouble| match trouble.kind {
            // A full disk is a good reason to clear: the little space this takes comes from what was cleared.
            TroubleKind::Full if self.give_up_one(&mut writer)? => self.save_generations(&mut writer),
            TroubleKind::Full | TroubleKind::ReadOnly | TroubleKind::Io => Err(trouble),
        });
        self.note(Change::Write, saved.as_ref().copied());
        saved.map(|()| generation).map_err(ChangeError)
    }

    pub(super) fn save_generations(&self, writer: &mut Writer) -> Result<(), Trouble> {
        if !writer.generations_unsaved {
            return Ok(());
        }
        let contents = self.read_state().generations.encode();
        let saved = self.disk.replace(generations::FILE_NAME, contents.as_bytes());
        saved.map_err(|error| Trouble::new("the generations cannot be written", &error))?;
        writer.generations_unsaved = false;
        Ok(())
    }
}

impl Writer {
    /// What has been written so far.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.next_sequence)
    }

    /// True if more may be written to `segment`.
    pub(super) fn is_active(&self, segment: &Segment) -> bool {
        let active = self.actives[segment.class.index()].as_ref();
        active.is_some_and(|active| active.segment.number == segment.number)
    }

    fn has_written(&mut self, segment: &Arc<Segment>, durability: Durability) {
        if durability != Durability::Os && !self.unsynced.iter().any(|other| other.number == segment.number) {
            self.unsynced.push(segment.clone());
        }
    }
}

/// It holds until every segment is gone that is older than it.
fn removal(namespace: &str, generation: u64, key: Key) -> Record<'_> {
    let content = Content::Removal;
    Record { namespace, sequence: 0, generation, key, created_ms: 0, expires_ms: 0, ttl_ms: 0, content }
}

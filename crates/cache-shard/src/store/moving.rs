//! A segment goes: what is kept of it is written once more, what is not is forgotten, its file is unlinked.
//!
//! ```text
//!  its contents ─▶ what is kept ─▶ written at the tail ─▶ index ─▶ on the disk itself ─▶ file unlinked
//!                                                                                          └─▶ removals that are older than
//!                                                                                              every segment left: unlinked
//! ```
//!
//! Invariants: a moved record keeps its times, its generation and its key, and gets a new sequence; a power cut finds the
//! old copy or the new one; a removal goes after everything it removed, on the disk itself.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Durability, Store, Writer,
    budget::Room,
    class::Class,
    contents::{Contents, Entry, Space},
    index::Location,
    record::Record,
    recovery::read_contents,
    segment::{Active, Segment, contents_name, file_name},
    state::State,
    trouble::{Trouble, TroubleKind},
    writing::PutError,
};

/// Entries that are forgotten under one lock, so that readers get their turn.
const FORGOTTEN_AT_ONCE: usize = 512;

/// What is kept of a segment that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing.
    Nothing,
    /// What was visited, the most visited first, as far as that is paid for.
    Visited,
    /// Everything the index leads to; if that finds no room, the segment stays.
    Everything,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    OverBudget,
    Expired,
    /// To give back the space of what is dead.
    MostlyDead,
}

/// A record that is moved.
struct Chosen {
    entry: Entry,
    visits: u8,
}

impl Store {
    /// Lets `segment` go.
    ///
    /// # Errors
    /// [`Trouble`]; the segment is still there then, and so is everything the index leads to.
    pub(super) fn retire(
        &self,
        writer: &mut Writer,
        segment: &Arc<Segment>,
        kept: Kept,
        because: Because,
    ) -> Result<(), Trouble> {
        if writer.is_active(segment) {
            self.seal(writer, segment.class);
        }
        let contents = match segment.live() {
            (0, _) => Contents::default(),
            _ => read_contents(&self.disk, segment).0,
        };
        let mut chosen = self.choose(segment, &contents, kept);
        if kept == Kept::Visited {
            pay(writer, &mut chosen);
        }
        let wanted = chosen.len();
        let moved = self.move_all(writer, segment, chosen)?;
        self.counters.moved.add(moved);
        if moved > 0 && self.options.durability != Durability::Os {
            self.sync_written(writer)?;
        }
        if kept == Kept::Everything && moved < wanted {
            return Ok(());
        }
        self.unlink(writer, segment, &contents, because)
    }

    fn choose(&self, segment: &Segment, contents: &Contents, kept: Kept) -> Vec<Chosen> {
        let now_ms = self.timeline.now_ms();
        let state = self.read_state();
        let live = contents.entries().iter().filter_map(|entry| {
            let space = contents.space(entry)?;
            lives(&state, segment, space, entry)?;
            let visits = state.index().visits(&space.namespace, &entry.prefix);
            (entry.expires_ms > now_ms).then_some(Chosen { entry: *entry, visits })
        });
        let mut live: Vec<_> = live.collect();
        match kept {
            Kept::Nothing => live.clear(),
            Kept::Everything => {}
            Kept::Visited => live.retain(|chosen| chosen.visits > 0),
        }
        live
    }

    /// Writes records once more, as long as there is room; how many were, those that cannot be read among them.
    fn move_all(
        &self,
        writer: &mut Writer,
        segment: &Segment,
        chosen: Vec<Chosen>,
    ) -> Result<usize, Trouble> {
        for (moved, chosen) in chosen.iter().enumerate() {
            match self.move_one(writer, segment, chosen) {
                Ok(true) => {}
                Ok(false) => return Ok(moved),
                Err(trouble) if trouble.kind == TroubleKind::Full => return Ok(moved),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(chosen.len())
    }

    /// False if there is no room for it.
    fn move_one(&self, writer: &mut Writer, segment: &Segment, chosen: &Chosen) -> Result<bool, Trouble> {
        let Entry { prefix, offset, bytes, precision: Some(precision), .. } = chosen.entry else {
            return Ok(true);
        };
        let read = segment.read(offset.into(), bytes as usize);
        let bytes = Bytes::from(read.unwrap_or_default());
        let Ok((record, _)) = Record::decode(&bytes, segment.seat(offset.into())) else {
            // It would have been a miss where it was.
            self.counters.damaged_records.add(1);
            return Ok(true);
        };
        let record = Record { sequence: writer.next_sequence, ..record };
        let remaining_ms = record.expires_ms.saturating_sub(self.timeline.now_ms());
        let class = Class::of_remaining(std::time::Duration::from_millis(remaining_ms));
        self.seal_if_full(writer, class, bytes.len());
        if !self.fits(writer, class, bytes.len(), Room::ForMoved) {
            return Ok(false);
        }
        let location = match self.write(writer, &record, class, precision) {
            Ok(location) => location,
            Err(PutError::Disk(trouble)) => return Err(trouble),
            Err(_) => return Ok(false),
        };
        self.write_state().point_moved(record.namespace, &prefix, location, chosen.visits / 2);
        Ok(true)
    }

    /// Removes the file, and what leads to it.
    fn unlink(
        &self,
        writer: &mut Writer,
        segment: &Arc<Segment>,
        contents: &Contents,
        because: Because,
    ) -> Result<(), Trouble> {
        let number = segment.number;
        let removed = self.disk.remove(&file_name(number));
        removed.map_err(|error| Trouble::new("a segment cannot be removed", &error))?;
        if let Err(error) = self.disk.remove(&contents_name(number)) {
            tracing::debug!(%error, number, "the contents of a segment stay behind");
        }
        writer.unsynced.retain(|other| other.number != number);
        writer.is_directory_unsynced = true;
        let gone = self.forget_all(segment, contents);
        match because {
            Because::OverBudget => self.counters.evicted.add(gone),
            Because::Expired | Because::MostlyDead => self.counters.expired.add(gone),
        }
        self.drop_obsolete_removals(writer);
        Ok(())
    }

    /// Forgets a segment and the entries that lead to it; how many those were. Readers may come in between.
    fn forget_all(&self, segment: &Arc<Segment>, contents: &Contents) -> usize {
        let mut gone = 0;
        for entries in contents.entries().chunks(FORGOTTEN_AT_ONCE) {
            let mut state = self.write_state();
            for entry in entries {
                let Some(space) = contents.space(entry) else { continue };
                if let Some(location) = lives(&state, segment, space, entry) {
                    gone += usize::from(state.forget_exactly(&space.namespace, &entry.prefix, location));
                }
            }
        }
        let removed = self.write_state().segments.remove(&segment.number);
        // Closed, and so freed on the disk, where no reader waits.
        drop(removed);
        if segment.live().0 > 0 {
            // Its contents could not be read to the end.
            gone += (0..State::STRIPES).map(|stripe| self.write_state().sweep(stripe)).sum::<usize>();
        }
        gone
    }

    /// Drops removals that are older than every segment left. What they removed is gone by then, on the disk itself.
    fn drop_obsolete_removals(&self, writer: &mut Writer) {
        let state = self.read_state();
        let (removals, vectors): (Vec<_>, Vec<_>) =
            state.segments.values().cloned().partition(|segment| segment.class == Class::REMOVALS);
        drop(state);
        let oldest = vectors.iter().map(|segment| segment.sequences().0).min().unwrap_or(u64::MAX);
        let mut obsolete = removals.iter().filter(|segment| segment.sequences().1 < oldest).peekable();
        if obsolete.peek().is_none() {
            return;
        }
        let is_synced = self.options.durability == Durability::Os || self.disk.sync_directory().is_ok();
        for segment in obsolete.filter(|_| is_synced) {
            writer.actives[Class::REMOVALS.index()].take_if(|active| active.segment.number == segment.number);
            for name in [file_name(segment.number), contents_name(segment.number)] {
                if let Err(error) = self.disk.remove(&name) {
                    tracing::debug!(%error, name, "removals of no more use stay behind");
                }
            }
            writer.unsynced.retain(|other| other.number != segment.number);
            self.write_state().segments.remove(&segment.number);
        }
    }

    /// Writes what a segment holds beside it.
    pub(super) fn write_contents(&self, active: &Active) {
        let Active { segment, contents, .. } = active;
        if segment.records() == 0 {
            return;
        }
        let name = contents_name(segment.number);
        let file = contents.encode(segment.salt, segment.bytes());
        match self.disk.replace_loosely(&name, &file) {
            Ok(()) => {
                segment.has_contents_of(file.len() as u64);
                self.counters.written_bytes.add(file.len());
            }
            Err(error) => tracing::debug!(%error, name, "the contents of a segment were not written"),
        }
    }
}

/// Leaves what can be paid for, the most visited first.
fn pay(writer: &mut Writer, chosen: &mut Vec<Chosen>) {
    chosen.sort_by_key(|chosen| std::cmp::Reverse(chosen.visits));
    let paid = chosen.iter().take_while(|chosen| writer.credit.pay(chosen.entry.bytes.into())).count();
    chosen.truncate(paid);
    // In the order of the file, which is how a disk likes to be read.
    chosen.sort_by_key(|chosen| chosen.entry.offset);
}

/// Where the record lies that `entry` tells of, if the index still leads to it.
fn lives(state: &State, segment: &Segment, space: &Space, entry: &Entry) -> Option<Location> {
    let location = state.index().find(&space.namespace, &entry.prefix)?;
    (location.segment == segment.number && location.offset == entry.offset).then_some(location)
}

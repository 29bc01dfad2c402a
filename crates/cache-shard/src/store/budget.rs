//! Entries, bytes, files and the memory of the index are bounded, exactly. Where a record would break a bound, a segment
//! goes first.

use std::io;

use super::{
    PutError, Store, Writer,
    class::Class,
    contents::RECORD_CONTENTS_BYTES_MAX,
    index::ENTRY_BYTES_MAX,
    segment::{Active, HEADER_BYTES},
    trouble::Trouble,
};

/// Files of records, and so file descriptors, of one store.
const SEGMENTS_MAX: usize = 512;
/// A segment holds at most this part of the entries and bytes, so that what goes at once is little.
pub(super) const SEGMENTS_OF_A_BUDGET: u64 = 16;

/// The bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Entries in the index.
    pub entries_max: usize,
    /// Bytes of all segments and their contents.
    pub bytes_max: u64,
    /// Bytes of one segment.
    pub segment_bytes_max: u64,
    /// Bytes of memory of the index.
    pub index_bytes_max: usize,
}

/// Who wants room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Somebody who puts a record: leaves room for what has to be moved.
    ForNew,
    /// A record that is moved: may use all there is.
    ForMoved,
}

impl Budget {
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes_max.min(self.bytes_max / SEGMENTS_OF_A_BUDGET)
    }

    /// As many as the memory of the index allows, and no more than were asked for.
    pub(super) fn entries(&self) -> usize {
        self.entries_max.min(self.index_bytes_max / ENTRY_BYTES_MAX)
    }

    fn segment_records(&self) -> u64 {
        (self.entries() as u64).div_ceil(SEGMENTS_OF_A_BUDGET).max(1)
    }

    /// Bytes that new records leave for moved ones: nothing is lost by the order in which a segment goes.
    fn reserve_bytes(&self) -> u64 {
        self.segment_bytes() / 2
    }
}

impl Store {
    /// Sees to it that a record of `record_bytes` finds room in the active segment of `class`, or in a new one.
    pub(super) fn make_room(
        &self,
        writer: &mut Writer,
        class: Class,
        record_bytes: usize,
    ) -> Result<(), PutError> {
        loop {
            self.seal_if_full(writer, class, record_bytes);
            if self.fits(writer, class, record_bytes, Room::ForNew) {
                return Ok(());
            }
            if !self.give_up_one(writer)? {
                let message = format!("a record of {record_bytes} bytes is over the budget");
                return Err(PutError::OverBudget(message));
            }
        }
    }

    /// A record that does not fit the active segment of its class goes into the next one.
    pub(super) fn seal_if_full(&self, writer: &mut Writer, class: Class, record_bytes: usize) {
        let budget = self.options.budget;
        let has_room = |active: &Active| {
            active.segment.bytes() + record_bytes as u64 <= budget.segment_bytes()
                && active.segment.records() < budget.segment_records()
                && active.contents.has_room()
        };
        if writer.actives[class.index()].as_ref().is_some_and(|active| !has_room(active)) {
            self.seal(writer, class);
        }
    }

    /// True if one more record breaks no bound.
    pub(super) fn fits(&self, writer: &Writer, class: Class, record_bytes: usize, room: Room) -> bool {
        let budget = self.options.budget;
        let usage = self.read_state().usage();
        let is_new = writer.actives[class.index()].is_none();
        let header_bytes = if is_new { HEADER_BYTES as u64 } else { 0 };
        let bytes = usage.bytes + header_bytes + record_bytes as u64 + RECORD_CONTENTS_BYTES_MAX;
        let segments = usage.segments + usize::from(is_new);
        // A removal has no entry, and a record that is moved has its entry already.
        let (entries, bytes_left, segments_left) = match room {
            Room::ForNew if class == Class::REMOVALS => (0, budget.reserve_bytes(), Class::COUNT),
            Room::ForNew => (usage.entries + 1, budget.reserve_bytes(), Class::COUNT),
            Room::ForMoved => (0, 0, 0),
        };
        entries <= budget.entries()
            && bytes + bytes_left <= budget.bytes_max
            && segments + segments_left <= SEGMENTS_MAX
    }

    pub(super) fn start_segment(&self, writer: &mut Writer, class: Class) -> Result<Active, Trouble> {
        let active = loop {
            let number = writer.next_number;
            match Active::create(&self.disk, number, class) {
                // Something that is no segment has the name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => {}
                created => break created,
            }
            writer.next_number += 1;
        };
        let active = active.map_err(|error| Trouble::new("a segment cannot be made", &error))?;
        writer.next_number = active.segment.number.saturating_add(1);
        writer.is_directory_unsynced = true;
        self.counters.written_bytes.add(HEADER_BYTES);
        self.write_state().segments.insert(active.segment.number, active.segment.clone());
        Ok(active)
    }

    /// Nothing more is written into the active segment of `class`. Its contents go beside it, so that the next start need
    /// not scan it; if they cannot be written, it has to.
    pub(super) fn seal(&self, writer: &mut Writer, class: Class) {
        if let Some(active) = writer.actives[class.index()].take() {
            self.write_contents(&active);
        }
    }

    /// True if everything is within its bounds, also after they were made smaller.
    pub(super) fn is_within_budget(&self) -> bool {
        let usage = self.read_state().usage();
        let budget = self.options.budget;
        usage.entries <= budget.entries() && usage.bytes <= budget.bytes_max && usage.segments <= SEGMENTS_MAX
    }
}

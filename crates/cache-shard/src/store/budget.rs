//! Entries, bytes and files are bounded. Where a record would break a bound, the oldest segment goes first.

use std::{io, sync::PoisonError};

use super::{
    PutError, Store, Writer,
    index::STRIPES,
    segment::{Active, HEADER_BYTES, file_name},
    trouble::Trouble,
};

/// Files, and so file descriptors, of one store.
const SEGMENTS_MAX: usize = 512;
/// A segment holds at most this part of the entries and bytes, so that what goes at once is little.
pub(super) const SEGMENTS_OF_A_BUDGET: u64 = 16;

/// The bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Entries in the index.
    pub entries_max: usize,
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Bytes of one segment.
    pub segment_bytes_max: u64,
}

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    OverBudget,
    Expired,
}

impl Budget {
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes_max.min(self.bytes_max / SEGMENTS_OF_A_BUDGET)
    }

    fn segment_records(&self) -> usize {
        let part = usize::try_from(SEGMENTS_OF_A_BUDGET).unwrap_or(1);
        self.entries_max.div_ceil(part).max(1)
    }
}

impl Store {
    /// The segment to append a record of `record_bytes` to, after whatever had to go for it. It is the writer's no more
    /// until it is put back.
    pub(super) fn make_room(&self, writer: &mut Writer, record_bytes: usize) -> Result<Active, PutError> {
        let record_bytes = record_bytes as u64;
        let budget = self.options.budget;
        loop {
            let active = writer.active.take().filter(|active| {
                let bytes = active.segment.bytes() + record_bytes;
                bytes <= budget.segment_bytes() && active.records < budget.segment_records()
            });
            let header_bytes = if active.is_some() { 0 } else { HEADER_BYTES as u64 };
            let (entries, bytes, segments) = self.usage();
            let fits = entries < budget.entries_max
                && bytes + header_bytes + record_bytes <= budget.bytes_max
                && segments + usize::from(active.is_none()) <= SEGMENTS_MAX;
            match active {
                Some(active) if fits => return Ok(active),
                None if fits => return self.start_segment(writer),
                active => writer.active = active,
            }
            if !self.drop_oldest(writer, Because::OverBudget)? {
                let message = format!("a record of {record_bytes} bytes is over the budget");
                return Err(PutError::OverBudget(message));
            }
        }
    }

    /// Entries, bytes, segments.
    pub(super) fn usage(&self) -> (usize, u64, usize) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = state.segments.values().map(|segment| segment.bytes()).sum();
        (state.index.len(), bytes, state.segments.len())
    }

    fn start_segment(&self, writer: &mut Writer) -> Result<Active, PutError> {
        let active = loop {
            let number = writer.next_number;
            match Active::create(&self.disk, number) {
                // Something that is no segment has the name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => {}
                created => break created,
            }
            writer.next_number += 1;
        };
        let active = active.map_err(|error| Trouble::new("a segment cannot be made", &error))?;
        writer.next_number = active.segment.number.saturating_add(1);
        writer.is_directory_unsynced = true;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.segments.insert(active.segment.number, active.segment.clone());
        Ok(active)
    }

    /// False if there is none.
    pub(super) fn drop_oldest(&self, writer: &mut Writer, because: Because) -> Result<bool, Trouble> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = state.segments.keys().next().copied() else { return Ok(false) };
        drop(state);
        let removed = self.disk.remove(&file_name(number));
        removed.map_err(|error| Trouble::new("the oldest segment cannot be removed", &error))?;
        // Its room is free once nobody has it open.
        writer.active.take_if(|active| active.segment.number == number);
        writer.unsynced.retain(|segment| segment.number != number);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let segment = state.segments.remove(&number);
        drop(state);
        // Closed, and so freed on the disk, where no reader waits.
        drop(segment);
        // Readers may come in between: an entry whose segment is gone is a miss.
        let gone = (0..STRIPES).map(|stripe| {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.index.retain_in(stripe, |location| location.segment != number)
        });
        let gone = gone.sum();
        match because {
            Because::OverBudget => self.counters.evicted.add(gone),
            Because::Expired => self.counters.expired.add(gone),
        }
        Ok(true)
    }

    /// Drops what is over the budgets, after they were made smaller.
    pub(super) fn shrink(&self, writer: &mut Writer) -> Result<(), Trouble> {
        loop {
            let (entries, bytes, segments) = self.usage();
            let budget = self.options.budget;
            if entries <= budget.entries_max && bytes <= budget.bytes_max && segments <= SEGMENTS_MAX {
                return Ok(());
            }
            if !self.drop_oldest(writer, Because::OverBudget)? {
                return Ok(());
            }
        }
    }

    /// Drops the oldest segments while all they hold has expired. Only the oldest: whatever a later one replaced or
    /// removed is then gone before it.
    pub(super) fn drop_expired(&self, writer: &mut Writer, now_ms: u64) -> Result<(), Trouble> {
        loop {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let oldest = state.segments.values().next().map(|segment| segment.expires_ms());
            drop(state);
            match oldest {
                Some(expires_ms) if expires_ms <= now_ms => self.drop_oldest(writer, Because::Expired)?,
                Some(_) | None => return Ok(()),
            };
        }
    }
}

//! Which segment goes where a budget is spent: `lru` by recency bits.
//!
//! Each entry of the index counts its visits to three, without a lock of its own. Segments are a queue: new records are
//! written at its tail, and where room is needed the segment at its head goes. Before it does, what was visited is written
//! to the tail once more, the most visited first, each with half its visits. What was not visited since it was written
//! is what goes. So a record that is used stays, and one that was stored by a scan and never asked for goes first, at the
//! cost of two bits: the CLOCK of Corbató (1969) over segments, with the counts and the re-insertion of S3-FIFO (Yang et
//! al., SOSP 2023) and the regions of CacheLib's Navy (Berg et al., OSDI 2020).
//!
//! What is moved is paid for: three bytes that are put allow one byte to be moved, and at most a segment's worth is saved
//! up. So each byte that is put is written at most one and a third times, however much is asked for, and no put waits for
//! more than that. A segment that has expired, or that nothing leads to, goes before all others and costs nothing; then
//! one that is more than half dead.

use std::sync::Arc;

use super::{
    Store, Writer,
    class::Class,
    moving::{Because, Kept},
    segment::Segment,
    trouble::Trouble,
};

/// Bytes that are put for each byte that may be moved.
const PUT_FOR_MOVED: u64 = 3;

/// Bytes that may be moved.
#[derive(Debug, Default)]
pub(super) struct Credit {
    bytes: u64,
    rest: u64,
}

impl Credit {
    /// So many bytes were put; no more than `most` are saved up.
    pub(super) fn earn(&mut self, put_bytes: u64, most: u64) {
        let earned = self.rest + put_bytes;
        self.bytes = (self.bytes + earned / PUT_FOR_MOVED).min(most);
        self.rest = earned % PUT_FOR_MOVED;
    }

    /// True if so many may be moved; they are paid then.
    pub(super) fn pay(&mut self, bytes: u64) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

/// A segment that goes.
struct Victim {
    segment: Arc<Segment>,
    kept: Kept,
    because: Because,
}

impl Store {
    /// Lets the segment go that is wanted least; false if there is none.
    pub(super) fn give_up_one(&self, writer: &mut Writer) -> Result<bool, Trouble> {
        let Some(victim) = self.victim() else { return Ok(false) };
        self.retire(writer, &victim.segment, victim.kept, victim.because)?;
        Ok(true)
    }

    fn victim(&self) -> Option<Victim> {
        let now_ms = self.timeline.now_ms();
        let state = self.read_state();
        let mut vectors = state.segments.values().filter(|segment| segment.class != Class::REMOVALS);
        let expired = vectors.clone().find(|segment| segment.expires_ms() <= now_ms);
        if let Some(segment) = expired {
            let segment = segment.clone();
            return Some(Victim { segment, kept: Kept::Nothing, because: Because::Expired });
        }
        let mostly_dead = vectors.clone().filter(|segment| is_mostly_dead(segment));
        let victim = mostly_dead.max_by_key(|segment| dead_bytes(segment)).or_else(|| vectors.next())?;
        Some(Victim { segment: victim.clone(), kept: Kept::Visited, because: Because::OverBudget })
    }
}

/// True if the index leads to less than half of what it holds.
pub(super) fn is_mostly_dead(segment: &Segment) -> bool {
    2 * segment.live().1 < segment.bytes()
}

fn dead_bytes(segment: &Segment) -> u64 {
    segment.bytes().saturating_sub(segment.live().1)
}

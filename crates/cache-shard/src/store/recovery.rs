//! From a directory, whatever is in it, to an index.
//!
//! ```text
//!  each segment ─▶ its contents: the file beside it, and a scan of what was written after that ─┐
//!                                                                                               │ a row for each class
//!  header wrong      ─▶ the segment is set aside as `.damaged`                                  ▼
//!  contents wrong    ─▶ the whole segment is scanned          merge by sequence ─▶ index: each record follows
//!  record wrong      ─▶ looked over, on to the next right one                      the one that was written before it
//!  generations wrong ─▶ set aside, everything counts as cleared
//!  newer version     ─▶ the only thing that refuses the start
//!  clock behind them ─▶ time goes on from the latest record
//! ```
//!
//! Within a class segments were filled one after another, so a row is in order by itself, and the merge holds the contents
//! of one segment of each class at a time.

mod files;
mod row;

use std::time::Duration;

use self::row::{Row, Taken};
pub(super) use self::{files::load_memos, row::read_contents};
use super::{
    OpenError, class::Class, clock::Timeline, disk::Disk, index::Location, segment::Active, state::State,
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) state: State,
    /// The generations are not on the disk as they are here.
    pub(super) generations_unsaved: bool,
    pub(super) next_number: u32,
    pub(super) next_sequence: u64,
    /// The last segment of each class, if more may be written to it.
    pub(super) actives: [Option<Active>; Class::COUNT],
    pub(super) damaged_segments: usize,
    /// Places where something was not a record, torn tails among them.
    pub(super) gaps: usize,
}

/// Reads the directory.
pub(super) fn recover(disk: &Disk, timeline: &Timeline) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered::default();
    let numbers = files::list(disk).map_err(|error| OpenError::directory(disk, error))?;
    let lost = files::load_generations(disk, &mut recovered, !numbers.is_empty())?;
    for number in &numbers {
        files::open_segment(disk, *number, &mut recovered)?;
    }
    let rows = merge(disk, timeline, &mut recovered);
    warn_of_clock(timeline.ahead());
    for (active, row) in recovered.actives.iter_mut().zip(rows) {
        recovered.gaps += row.gaps();
        *active = row.into_active();
    }
    if lost {
        recovered.state.clear_all();
    }
    Ok(recovered)
}

/// Of less than this behind the records nobody is told: clocks are corrected, and machines differ.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

fn warn_of_clock(ahead: Duration) {
    if ahead > CLOCK_BEHIND_MAX {
        let ahead_seconds = ahead.as_secs();
        tracing::warn!(
            ahead_seconds,
            "records are from later than this machine's clock says it is: time goes on from the latest of them; is the clock right?"
        );
    }
}

/// Takes all records in, in the order in which they were written.
fn merge(disk: &Disk, timeline: &Timeline, recovered: &mut Recovered) -> [Row; Class::COUNT] {
    let mut rows: [Row; Class::COUNT] = Default::default();
    for segment in recovered.state.segments.values() {
        rows[segment.class.index()].push(segment.clone());
    }
    let mut progress = row::Progress::new(recovered.state.segments.len());
    rows.iter_mut().for_each(|row| row.load(disk, timeline, &mut progress));
    // The next record is that of the lowest sequence.
    let lowest = |rows: &[Row]| {
        let sequences = rows.iter().enumerate().filter_map(|(index, row)| Some((row.sequence()?, index)));
        sequences.min().map(|(_, index)| index)
    };
    while let Some(index) = lowest(&rows) {
        if let Some(taken) = rows[index].take() {
            recovered.next_sequence = recovered.next_sequence.max(taken.entry.sequence.saturating_add(1));
            recovered.generations_unsaved |= take_in(&mut recovered.state, &taken, timeline.now_ms());
        }
        rows[index].load(disk, timeline, &mut progress);
    }
    rows
}

/// Later records stand for what was decided when they were written: each simply follows the one before it. True if it has a
/// generation that nobody knew.
fn take_in(state: &mut State, taken: &Taken<'_>, now_ms: u64) -> bool {
    let Taken { segment, entry, space } = taken;
    let is_news = state.has_been(&space.namespace, space.generation);
    if space.generation != state.generations.of(&space.namespace) {
        return is_news;
    }
    let (offset, bytes, expires_ms) = (entry.offset, entry.bytes, entry.expires_ms);
    match entry.precision {
        None => drop(state.forget(&space.namespace, &entry.prefix)),
        Some(precision) if expires_ms > now_ms => {
            let location = Location { segment: segment.number, offset, bytes, precision, expires_ms };
            state.point(&space.namespace, &entry.prefix, location);
        }
        // Whatever it replaced was there when it came, and may be there again.
        Some(_) => {}
    }
    is_news
}

//! Reads a segment from its begin to its end, a part at a time: memory does not grow with the segment.

use super::{
    record::{RECORD_BYTES_MAX, Record},
    segment::Segment,
};

/// Bytes in memory at once; many times the largest record, so that little is read twice.
const WINDOW_BYTES: usize = 1 << 20;
/// A disk fails in blocks: where one cannot be read, the next one may.
const BLOCK_BYTES: u64 = 4096;
/// Blocks of a segment that are tried and fail, before its rest is given up: a dying disk takes seconds for each.
const BAD_BLOCKS_MAX: usize = 8;

/// The part of a file that is in memory.
#[derive(Debug)]
struct Window<'a> {
    segment: &'a Segment,
    /// Where in the file `data` begins.
    start: u64,
    data: Vec<u8>,
    /// What follows `data` cannot be read.
    ends_badly: bool,
    bad_blocks: usize,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> Self {
        Self { segment, start: 0, data: Vec::new(), ends_badly: false, bad_blocks: 0 }
    }

    /// What the file has from `offset` on: as much as any record has, or all there is. Empty where it cannot be read.
    fn from(&mut self, offset: u64) -> &[u8] {
        let wanted = self.segment.bytes().min(offset + RECORD_BYTES_MAX as u64);
        let end = self.start + self.data.len() as u64;
        if !(self.start..=end).contains(&offset) || (wanted > end && !self.ends_badly) {
            self.fill(offset);
        }
        let skipped = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        self.data.get(skipped..).unwrap_or_default()
    }

    fn fill(&mut self, offset: u64) {
        let length = (self.segment.bytes() - offset).min(WINDOW_BYTES as u64);
        self.data.resize(usize::try_from(length).unwrap_or(WINDOW_BYTES), 0);
        self.start = offset;
        let mut filled = 0;
        while filled < self.data.len() {
            let end = offset + filled as u64;
            match self.segment.read_some(&mut self.data[filled..], end) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => {
                    tracing::warn!(%error, offset = end, "a block of a segment cannot be read");
                    break;
                }
            }
        }
        self.ends_badly = filled < self.data.len();
        self.bad_blocks += usize::from(self.ends_badly);
        self.data.truncate(filled);
    }

    /// Where to go on after `offset`, which cannot be read.
    fn past_bad_block(&self, offset: u64) -> u64 {
        match self.bad_blocks < BAD_BLOCKS_MAX {
            true => (offset / BLOCK_BYTES + 1) * BLOCK_BYTES,
            false => self.segment.bytes(),
        }
    }
}

/// Calls `found` with each record from `start` on, its offset and its length. The number of places where something is not
/// a record.
pub(super) fn scan(segment: &Segment, start: u64, mut found: impl FnMut(&Record<'_>, u32, u32)) -> usize {
    let mut window = Window::new(segment);
    let mut gaps = 0;
    let mut is_gap = false;
    let mut offset = start;
    while offset < segment.bytes() {
        let seat = segment.seat(offset);
        let data = window.from(offset);
        if let Ok((record, length)) = Record::decode(data, seat) {
            if let (Ok(offset), Ok(length)) = (u32::try_from(offset), u32::try_from(length)) {
                found(&record, offset, length);
            }
            is_gap = false;
            offset += length as u64;
            continue;
        }
        gaps += usize::from(!is_gap);
        is_gap = true;
        let (mark, length) = (seat.mark(), data.len());
        let next = data.get(1..).and_then(|rest| rest.windows(mark.len()).position(|bytes| bytes == mark));
        offset = match next {
            Some(step) => offset + 1 + step as u64,
            None if length == 0 => window.past_bad_block(offset),
            // The mark may begin in what is left.
            None => offset + (length as u64).saturating_sub(mark.len() as u64 - 1).max(1),
        };
    }
    gaps
}

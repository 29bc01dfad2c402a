//! Rows of JSON that were written before: to print a vector's numbers costs more than all else that a hit in L1 does.
//!
//! ```text
//!  (vector, finish) ─▶ row ── there ────────────────────────────────────┐
//!                       └─ no ─▶ finish ─▶ print ─┬─ from L1: kept ─────┤─▶ the answer
//!                                                 └─ newly come: not ───┘
//! ```
//!
//! A row belongs to one vector in memory, not to a key: it is found by the vector's address, and the vector is held as
//! long as its row, so that the address names no other one. What replaces a vector in L1 is thus never answered with
//! the row of what was there before.
//!
//! Goals: bounded in bytes, exactly, the vectors that are held included; a text that is asked for once leaves no row.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use serde_json::value::{RawValue, to_raw_value};
use vector::Finish;

use crate::lookup::{Embedded, l1::CachedVector, single_flight::Source};

const SHARDS_MAX: usize = 16;
/// A shard smaller than this is not worth having: it would hold a few rows of a wide model.
const SHARD_BYTES_MIN: usize = 1 << 20;
/// What a row takes beside its characters and its vector: list node, table slot, allocator rounding.
const OVERHEAD_BYTES: usize = 192;

/// A finished vector as JSON, brackets included.
pub(crate) type Row = Arc<RawValue>;

/// The rows of all vectors in use.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Empty where no row is kept.
    shards: Box<[Mutex<Shard>]>,
}

/// What a row is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    /// Address of the vector.
    vector: usize,
    finish: Finish,
}

#[derive(Debug)]
struct Shard {
    rows: LruCache<Place, Kept>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    row: Row,
    /// Keeps the address from being used again.
    vector: Arc<CachedVector>,
}

impl Kept {
    fn weight_bytes(&self) -> usize {
        self.row.get().len() + self.vector.weight_bytes() + OVERHEAD_BYTES
    }
}

impl Rows {
    /// Keeps rows of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let shards = (bytes_max / SHARD_BYTES_MIN).min(SHARDS_MAX);
        let shard = || Mutex::new(Shard::new(bytes_max / shards));
        Self { shards: std::iter::repeat_with(shard).take(shards).collect() }
    }

    /// The row of `text`, finished.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn row(&self, text: &Embedded, finish: Finish) -> Result<Row, serde_json::Error> {
        if text.source != Source::L1 {
            return write(&text.vector, finish);
        }
        let place = Place { vector: Arc::as_ptr(&text.vector).addr(), finish };
        if let Some(row) = self.shard(place).and_then(|mut shard| shard.get(&place)) {
            return Ok(row);
        }
        let row = write(&text.vector, finish)?;
        if let Some(mut shard) = self.shard(place) {
            shard.keep(place, Kept { row: row.clone(), vector: text.vector.clone() });
        }
        Ok(row)
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            // Freed after the lock is given back.
            let _rows = locked(shard).take();
        }
    }

    /// Bytes of all rows, vectors and overhead included.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).bytes).sum()
    }

    fn shard(&self, place: Place) -> Option<MutexGuard<'_, Shard>> {
        let count = NonZeroUsize::new(self.shards.len())?;
        // Neighbours in memory are a multiple of their size apart; the low bits say nothing.
        self.shards.get((place.vector >> 6) % count).map(locked)
    }
}

fn write(vector: &CachedVector, finish: Finish) -> Result<Row, serde_json::Error> {
    to_raw_value(&finish.apply(&vector.pooled)).map(Arc::from)
}

/// A panic in another thread leaves a shard usable: nothing here is done in halves that could panic.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn new(bytes_max: usize) -> Self {
        Self { rows: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    fn get(&mut self, place: &Place) -> Option<Row> {
        self.rows.get(place).map(|kept| kept.row.clone())
    }

    fn keep(&mut self, place: Place, kept: Kept) {
        let weight = kept.weight_bytes();
        if weight > self.bytes_max || self.rows.contains(&place) {
            return;
        }
        while self.bytes + weight > self.bytes_max {
            let Some((_, evicted)) = self.rows.pop_lru() else { break };
            self.bytes -= evicted.weight_bytes();
        }
        self.bytes += weight;
        self.rows.put(place, kept);
    }

    fn take(&mut self) -> LruCache<Place, Kept> {
        self.bytes = 0;
        std::mem::replace(&mut self.rows, LruCache::unbounded())
    }
}

#[cfg(test)]
mod tests {
    use protocol::inference::PrecisionClass;
    use vector::{ModelWidths, Normalization, Widths};

    use super::*;

    const WIDTH: usize = 8;

    fn text(value: f32, source: Source) -> Embedded {
        let vector = CachedVector {
            pooled: vec![value; WIDTH].into(),
            tokens: 1,
            truncated: false,
            class: PrecisionClass::Float32,
        };
        Embedded { vector: Arc::new(vector), source }
    }

    fn finish(dimensions: u32, normalization: Normalization) -> Finish {
        let width = u32::try_from(WIDTH).unwrap();
        let model = ModelWidths { full: width, trained: &[], layer_norm_before_cut: false };
        Finish::new(Some(dimensions), model, Widths::Any, normalization).unwrap()
    }

    fn raw() -> Finish {
        finish(8, Normalization::Raw)
    }

    #[test]
    fn a_row_is_that_of_the_vector_in_each_finish() {
        let rows = Rows::new(1 << 20);
        let text = text(0.5, Source::L1);
        for finish in [raw(), finish(2, Normalization::Raw), finish(8, Normalization::Unit)] {
            let expected = serde_json::to_string(&finish.apply(&text.vector.pooled)).unwrap();
            for _ in 0..2 {
                assert_eq!(rows.row(&text, finish).unwrap().get(), expected);
            }
        }
    }

    #[test]
    fn only_what_came_from_l1_leaves_its_row() {
        let rows = Rows::new(1 << 20);
        for source in [Source::Computed, Source::L2] {
            rows.row(&text(0.5, source), raw()).unwrap();
        }
        assert_eq!(rows.bytes(), 0);
        let text = text(0.5, Source::L1);
        let (first, second) = (rows.row(&text, raw()).unwrap(), rows.row(&text, raw()).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_vector_is_never_answered_with_the_row_of_another_at_its_address() {
        let rows = Rows::new(1 << 20);
        for value in 0..10_000_u16 {
            // Freed at once: only the row can hold the address.
            let text = text(f32::from(value), Source::L1);
            let row = rows.row(&text, raw()).unwrap();
            assert!(row.get().starts_with(&format!("[{:?},", f32::from(value))), "{value}: {}", row.get());
        }
    }

    #[test]
    fn bytes_are_bounded_and_what_was_used_last_stays() {
        let rows = Rows::new(SHARD_BYTES_MIN);
        let kept = text(0.5, Source::L1);
        let first = rows.row(&kept, raw()).unwrap();
        for value in 0..10_000_u16 {
            rows.row(&text(f32::from(value), Source::L1), raw()).unwrap();
            assert!(rows.bytes() <= SHARD_BYTES_MIN);
            assert!(Arc::ptr_eq(&rows.row(&kept, raw()).unwrap(), &first));
        }
        rows.clear();
        assert_eq!(rows.bytes(), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let rows = Rows::new(0);
        let text = text(0.5, Source::L1);
        rows.row(&text, raw()).unwrap();
        assert_eq!(rows.bytes(), 0);
    }
}

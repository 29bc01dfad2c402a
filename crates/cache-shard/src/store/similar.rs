//! The nearest neighbours of a vector among those stored: every one is compared, so nothing can be missed.
//!
//! ```text
//!  segments, begin to end ─▶ records of the namespace and the identity that the index leads to ─▶ cosine ─▶ the best few
//! ```
//!
//! Exact on purpose: there is no second index that could be stale, and a cache of a million vectors of 768 numbers is 1.6 GB
//! that are read in a row. It is for people and jobs, not for the path of a request, so one search runs at a time.

use std::{cmp::Ordering, collections::BinaryHeap, sync::TryLockError};

use bytes::Bytes;
use half::{f16, slice::HalfFloatSliceExt};

use super::{
    Store,
    class::Class,
    index::Location,
    reading::{Asked, Found, hit_of},
    record::{Content, Record},
    scan::scan,
    segment::{HEADER_BYTES, Segment},
    vector::{Element, Hit, Identity, Key, Prefix},
};

/// Numbers that are summed beside each other: wide enough for any register.
const LANES: usize = 16;

/// What is near.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// What it is found by.
    pub key: Key,
    /// Its cosine with what was asked for, -1 to 1.
    pub cosine: f32,
    /// Its vector.
    pub hit: Hit,
}

/// What a search brought.
#[derive(Debug)]
pub struct Neighbours {
    /// The nearest first.
    pub nearest: Vec<Neighbour>,
    /// Vectors that were compared.
    pub compared: u64,
}

/// What a search compares with.
#[derive(Debug, Clone)]
pub enum Probe {
    /// A vector of its own: (width) numbers.
    Vector(Vec<f32>),
    /// The vector that is stored under this key.
    Stored(Key),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SimilarError {
    /// Another search runs.
    #[error("another search runs; one runs at a time")]
    Busy,
    /// There is nothing under the key.
    #[error("`key` is not there")]
    NoSuchKey,
    /// Nothing is near to nothing.
    #[error("`vector` has no direction: it is empty, zero or not finite")]
    NoDirection,
}

/// A neighbour in the heap, whose top is the farthest.
struct Near(Neighbour);

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cosine.total_cmp(&self.0.cosine).then_with(|| self.0.key.cmp(&other.0.key))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Near {}

/// A search under way.
struct Search<'a> {
    store: &'a Store,
    asked: Asked<'a>,
    identity: Identity,
    /// Of unit norm.
    wanted: Vec<f32>,
    but: Option<Key>,
    count: usize,
    best: BinaryHeap<Near>,
    compared: u64,
    numbers: Vec<f32>,
    halves: Vec<f16>,
}

impl Store {
    /// The `count` vectors of `identity` in `namespace` that are nearest to `probe`.
    ///
    /// # Errors
    /// [`SimilarError`].
    pub fn similar(
        &self,
        namespace: &str,
        identity: Identity,
        probe: &Probe,
        count: usize,
    ) -> Result<Neighbours, SimilarError> {
        let _turn = match self.search.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(SimilarError::Busy),
            // Nothing is kept from one search to the next.
            turn => turn,
        };
        let generation = self.generation(namespace);
        let asked = Asked { namespace, generation, now_ms: self.timeline.now_ms() };
        let (numbers, but) = match probe {
            Probe::Vector(numbers) => (numbers.clone(), None),
            Probe::Stored(key) => (self.numbers_of(namespace, identity, key)?, Some(*key)),
        };
        let wanted = unit(numbers).ok_or(SimilarError::NoDirection)?;
        let (best, numbers, halves) = (BinaryHeap::new(), Vec::new(), Vec::new());
        let mut search =
            Search { store: self, asked, identity, wanted, but, count, best, compared: 0, numbers, halves };
        let segments: Vec<_> = self.read_state().segments.values().cloned().collect();
        for segment in segments.iter().filter(|segment| segment.class != Class::REMOVALS) {
            scan(segment, HEADER_BYTES as u64, |record, offset, _| search.look_at(segment, record, offset));
        }
        let mut nearest: Vec<_> = search.best.into_iter().map(|near| near.0).collect();
        nearest.sort_by(|one, other| other.cosine.total_cmp(&one.cosine).then(one.key.cmp(&other.key)));
        Ok(Neighbours { nearest, compared: search.compared })
    }

    fn numbers_of(&self, namespace: &str, identity: Identity, key: &Key) -> Result<Vec<f32>, SimilarError> {
        let Found { mut hits, .. } = self.get_many(namespace, &[*key], usize::MAX);
        let hit = hits.pop().flatten().filter(|hit| hit.vector.identity == identity);
        let hit = hit.ok_or(SimilarError::NoSuchKey)?;
        let (mut numbers, mut halves) = (Vec::new(), Vec::new());
        read_numbers(hit.vector.element, &hit.vector.bytes, &mut numbers, &mut halves);
        Ok(numbers)
    }
}

impl Search<'_> {
    fn look_at(&mut self, segment: &Segment, record: &Record<'_>, offset: u32) {
        let Content::Vector { identity, element, width, bytes, .. } = record.content else { return };
        let is_wanted = identity == self.identity
            && width as usize == self.wanted.len()
            && record.generation == self.asked.generation
            && record.namespace == self.asked.namespace
            && record.expires_ms > self.asked.now_ms
            && self.but != Some(record.key)
            && self.leads_here(segment, record, offset);
        if !is_wanted {
            return;
        }
        read_numbers(element, bytes, &mut self.numbers, &mut self.halves);
        let norm = dot(&self.numbers, &self.numbers).sqrt();
        if norm == 0.0 {
            return;
        }
        let cosine = (dot(&self.numbers, &self.wanted) / norm).clamp(-1.0, 1.0);
        self.compared += 1;
        let is_full = self.best.len() == self.count;
        if is_full && self.best.peek().is_none_or(|farthest| farthest.0.cosine >= cosine) {
            return;
        }
        if let Some(hit) = self.hit(record, bytes.len()) {
            self.best.push(Near(Neighbour { key: record.key, cosine, hit }));
        }
        if self.best.len() > self.count {
            self.best.pop();
        }
    }

    fn leads_here(&self, segment: &Segment, record: &Record<'_>, offset: u32) -> bool {
        let state = self.store.read_state();
        let found = state.index().find(record.namespace, &Prefix::of(&record.key));
        found.is_some_and(|Location { segment: number, offset: there, .. }| {
            number == segment.number && there == offset
        })
    }

    fn hit(&self, record: &Record<'_>, bytes: usize) -> Option<Hit> {
        let Content::Vector { text, bytes: numbers, .. } = record.content else { return None };
        // A copy of its own: what was scanned is overwritten by what follows.
        let mut copy = Vec::with_capacity(bytes + text.len());
        copy.extend_from_slice(text);
        copy.extend_from_slice(numbers);
        let copy = Bytes::from(copy);
        let (text, numbers) = copy.split_at(text.len());
        let mut record = *record;
        if let Content::Vector { text: old_text, bytes: old_numbers, .. } = &mut record.content {
            (*old_text, *old_numbers) = (text, numbers);
        }
        hit_of(&record, &copy, self.asked.now_ms)
    }
}

/// The numbers of a vector, in the place of what `numbers` held.
fn read_numbers(element: Element, bytes: &[u8], numbers: &mut Vec<f32>, halves: &mut Vec<f16>) {
    numbers.clear();
    match element {
        Element::Float32 => {
            numbers.extend(bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)));
        }
        Element::Float16 => {
            halves.clear();
            halves.extend(bytes.as_chunks::<2>().0.iter().map(|number| f16::from_le_bytes(*number)));
            numbers.resize(halves.len(), 0.0);
            halves.convert_to_f32_slice(numbers);
        }
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<LANES>(), other.as_chunks::<LANES>());
    for (one, other) in ones.iter().zip(others) {
        for lane in 0..LANES {
            sums[lane] += one[lane] * other[lane];
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(one, other)| one * other).sum();
    sums.iter().sum::<f32>() + rest
}

fn unit(mut numbers: Vec<f32>) -> Option<Vec<f32>> {
    let norm = dot(&numbers, &numbers).sqrt();
    if !norm.is_finite() || norm == 0.0 {
        return None;
    }
    numbers.iter_mut().for_each(|number| *number /= norm);
    Some(numbers)
}

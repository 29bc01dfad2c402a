//! L1: vectors in this process's memory, bounded in entries and in bytes, expired by time.
//!
//! ```text
//!  key ─▶ shard ─▶ get ── past its time: removed
//!                  insert ── there already: the first one stays
//!                         ├─ no room ─▶ policy ─▶ the one that is to go first, until there is room
//!                         └─ kept
//! ```
//!
//! Goals: bounded in entries and in bytes, exactly; a vector past its time is never returned; the first write of a key
//! wins, so that every hit of a record is bit-equal; which vectors go is said in one place for each policy.
//!
//! Non-goals: no clock of its own (callers pass `now`), no counting of hits (a lookup may look twice).

mod adaptive;
pub(crate) mod admission;
pub(crate) mod alone;
mod ghosts;
mod policy;
mod recency;

use std::{
    num::NonZeroUsize,
    sync::{Arc, PoisonError},
    time::Duration,
};

use protocol::inference::PrecisionClass;
use tokio::time::Instant;

use super::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
use crate::key::CacheKey;
use admission::Admission;
use policy::Policy;

const SHARDS_MAX: usize = 16;
/// A shard smaller than this is not worth having: keys never spread quite evenly.
const SHARD_ENTRIES_MIN: usize = 64;
const SHARD_BYTES_MIN: usize = 1 << 20;
/// What an entry takes beside its numbers: list node with key, table slot, and the vector's own fields are about 150
/// bytes, the key that a policy remembers for each about 50 more; the rest is what the allocator rounds up.
const OVERHEAD_BYTES: usize = 256;

/// A pooled vector as it is kept: full width, not normalized.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CachedVector {
    /// The numbers: (width).
    pub(crate) pooled: Box<[f32]>,
    /// Tokens computed, special tokens included.
    pub(crate) tokens: u32,
    /// True where the text was cut to the model's limit.
    pub(crate) truncated: bool,
    /// How it was computed.
    pub(crate) class: PrecisionClass,
}

impl CachedVector {
    /// What it takes of a bound in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        size_of_val(&*self.pooled) + OVERHEAD_BYTES
    }
}

/// Counts the clears: a computation begun in one generation is not kept in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The cache.
#[derive(Debug)]
pub(crate) struct L1 {
    /// Empty where the cache is off.
    shards: Box<[Mutex<Shard>]>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    entries: Box<dyn Policy>,
    admission: Admission,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    vector: Arc<CachedVector>,
    expires: Instant,
}

/// How much is in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Vectors.
    pub(crate) entries: usize,
    /// Bytes, overhead included.
    pub(crate) bytes: usize,
}

impl L1 {
    /// A cache of at most `entries_max` vectors and `bytes_max` bytes that is plain LRU; 0 entries turn it off.
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        let shards = (entries_max / SHARD_ENTRIES_MIN).min(bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shards = if entries_max == 0 { 0 } else { shards };
        let part = |whole: usize, index| whole / shards + usize::from(index < whole % shards);
        Self {
            shards: (0..shards)
                .map(|index| Shard::new(part(entries_max, index), part(bytes_max, index), Admission::Lru))
                .map(Mutex::new)
                .collect(),
            generation: AtomicU64::new(0),
        }
    }

    /// The same cache, empty, with this admission.
    pub(crate) fn admitting(mut self, admission: Admission) -> Self {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            *shard = Shard::new(shard.entries_max, shard.bytes_max, admission);
        }
        self
    }

    /// The generation now; take it before a computation starts.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// The vector of `key`, unless it is past its time.
    pub(crate) fn get(&self, key: &CacheKey, now: Instant) -> Option<Arc<CachedVector>> {
        self.shard(key)?.get(key, now)
    }

    /// Keeps `vector` for `ttl`, unless one of this key is there already or the cache was cleared since `generation`.
    /// Returns the vector that everybody shall see.
    pub(crate) fn insert(
        &self,
        key: CacheKey,
        vector: Arc<CachedVector>,
        ttl: Duration,
        now: Instant,
        generation: Generation,
    ) -> Arc<CachedVector> {
        let Some(mut shard) = self.shard(&key) else { return vector };
        // Read under the shard's lock: a clear counts up first and then takes every lock.
        if self.generation() != generation {
            return vector;
        }
        shard.insert(key, vector, now + ttl, now)
    }

    /// Forgets everything; returns how many vectors that were.
    pub(crate) fn clear(&self) -> usize {
        self.generation.fetch_add(1, Ordering::AcqRel);
        // Freed after the lock is given back: that takes time in proportion to the entries.
        let emptied = self.shards.iter().map(|shard| locked(shard).take());
        emptied.map(|entries| entries.len()).sum()
    }

    /// How much is kept, vectors past their time included until they are met.
    pub(crate) fn size(&self) -> Size {
        self.shards.iter().fold(Size::default(), |size, shard| {
            let shard = locked(shard);
            Size { entries: size.entries + shard.entries.len(), bytes: size.bytes + shard.bytes }
        })
    }

    fn shard(&self, key: &CacheKey) -> Option<MutexGuard<'_, Shard>> {
        let count = NonZeroUsize::new(self.shards.len())?;
        let index = usize::try_from(key.spread() % count.get() as u64).unwrap_or_default();
        self.shards.get(index).map(locked)
    }
}

/// A panic in another thread leaves a shard usable: nothing here is done in halves that could panic.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn new(entries_max: usize, bytes_max: usize, admission: Admission) -> Self {
        Self { entries: admission.start(), admission, bytes: 0, entries_max, bytes_max }
    }

    fn get(&mut self, key: &CacheKey, now: Instant) -> Option<Arc<CachedVector>> {
        let entry = self.entries.get(key)?;
        if now < entry.expires {
            return Some(entry.vector.clone());
        }
        self.remove(key);
        None
    }

    fn insert(
        &mut self,
        key: CacheKey,
        vector: Arc<CachedVector>,
        expires: Instant,
        now: Instant,
    ) -> Arc<CachedVector> {
        if let Some(first) = self.get(&key, now) {
            return first;
        }
        let weight = vector.weight_bytes();
        if weight > self.bytes_max {
            return vector;
        }
        let was_full = !self.has_room(weight);
        while !self.has_room(weight) {
            let Some(evicted) = self.entries.evict(now) else { break };
            self.bytes -= evicted.vector.weight_bytes();
        }
        self.bytes += weight;
        self.entries.put(key, Entry { vector: vector.clone(), expires }, was_full);
        vector
    }

    fn has_room(&self, weight: usize) -> bool {
        self.entries.len() < self.entries_max && self.bytes + weight <= self.bytes_max
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(removed) = self.entries.remove(key) {
            self.bytes -= removed.vector.weight_bytes();
        }
    }

    fn take(&mut self) -> Box<dyn Policy> {
        self.bytes = 0;
        std::mem::replace(&mut self.entries, self.admission.start())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn key(number: u8) -> CacheKey {
        CacheKey(*blake3::hash(&[number]).as_bytes())
    }

    fn vector(value: f32, width: usize) -> Arc<CachedVector> {
        Arc::new(CachedVector {
            pooled: vec![value; width].into(),
            tokens: 3,
            truncated: false,
            class: PrecisionClass::Float32,
        })
    }

    fn put(l1: &L1, number: u8, value: f32, now: Instant) -> f32 {
        l1.insert(key(number), vector(value, 4), TTL, now, l1.generation()).pooled[0]
    }

    #[test]
    fn first_write_wins_until_it_expires() {
        let (l1, now) = (L1::new(10, 1 << 20), Instant::now());
        assert_eq!(put(&l1, 1, 1.0, now), 1.0);
        assert_eq!(put(&l1, 1, 2.0, now), 1.0);
        assert_eq!(put(&l1, 1, 3.0, now + TTL), 3.0);
    }

    #[test]
    fn a_vector_is_gone_at_the_end_of_its_time_and_its_bytes_with_it() {
        let (l1, now) = (L1::new(10, 1 << 20), Instant::now());
        put(&l1, 1, 1.0, now);
        assert!(l1.get(&key(1), now + TTL - Duration::from_nanos(1)).is_some());
        assert!(l1.get(&key(1), now + TTL).is_none());
        assert_eq!(l1.size(), Size::default());
    }

    #[test]
    fn least_recently_used_goes_first() {
        let (l1, now) = (L1::new(2, 1 << 20), Instant::now());
        put(&l1, 1, 1.0, now);
        put(&l1, 2, 2.0, now);
        l1.get(&key(1), now).unwrap();
        put(&l1, 3, 3.0, now);
        let kept: Vec<u8> = (1..=3).filter(|number| l1.get(&key(*number), now).is_some()).collect();
        assert_eq!(kept, [1, 3]);
    }

    #[test]
    fn a_computation_begun_before_a_clear_does_not_refill_it() {
        let (l1, now) = (L1::new(10, 1 << 20), Instant::now());
        let before = l1.generation();
        put(&l1, 1, 1.0, now);
        assert_eq!(l1.clear(), 1);
        l1.insert(key(2), vector(2.0, 4), TTL, now, before);
        assert_eq!(l1.size(), Size::default());
        put(&l1, 2, 2.0, now);
        assert_eq!(l1.size().entries, 1);
    }

    #[test]
    fn without_capacity_nothing_is_kept_and_nothing_breaks() {
        for l1 in [L1::new(0, 1 << 20), L1::new(10, 0)] {
            assert_eq!(put(&l1, 1, 1.0, Instant::now()), 1.0);
            assert!(l1.get(&key(1), Instant::now()).is_none());
            assert_eq!(l1.clear(), 0);
        }
    }

    #[test]
    fn parts_of_the_shards_add_up_to_the_whole() {
        for entries_max in [1, 63, 64, 1000, 200_000] {
            let l1 = L1::new(entries_max, 512 << 20);
            let parts: usize = l1.shards.iter().map(|shard| locked(shard).entries_max).sum();
            assert_eq!(parts, entries_max);
        }
    }

    #[test]
    fn one_pass_over_many_texts_leaves_what_is_in_use() {
        let now = Instant::now();
        let kept_after_pass = |admission| {
            let l1 = L1::new(60, 1 << 20).admitting(admission);
            (0..240).for_each(|number| {
                put(&l1, number, 1.0, now);
            });
            (0..60).filter(|number| l1.get(&key(*number), now).is_some()).count()
        };
        assert_eq!(kept_after_pass(Admission::Lru), 0);
        assert!(kept_after_pass(Admission::Adaptive) > 50);
    }

    #[test]
    fn what_enters_a_cache_with_room_is_kept_under_every_policy() {
        let now = Instant::now();
        for admission in [Admission::Lru, Admission::Adaptive] {
            let l1 = L1::new(60, 1 << 20).admitting(admission);
            (0..60).for_each(|number| {
                put(&l1, number, 1.0, now);
            });
            assert!((0..60).all(|number| l1.get(&key(number), now).is_some()), "{admission:?}");
        }
    }

    #[test]
    fn a_clear_forgets_what_a_policy_learnt() {
        let (l1, now) = (L1::new(60, 1 << 20).admitting(Admission::Adaptive), Instant::now());
        (0..200).for_each(|number| {
            put(&l1, number, 1.0, now);
        });
        assert_eq!(l1.clear(), 60);
        assert_eq!(l1.size(), Size::default());
        assert_eq!(put(&l1, 1, 2.0, now), 2.0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Get(u8),
        Insert { number: u8, width: usize, ttl_seconds: u64 },
        Wait { seconds: u64 },
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Get),
            4 => (any::<u8>(), 1_usize..64, 1_u64..20)
                .prop_map(|(number, width, ttl_seconds)| Step::Insert { number, width, ttl_seconds }),
            1 => (0_u64..10).prop_map(|seconds| Step::Wait { seconds }),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn what_is_returned_is_what_was_written_last_and_budgets_hold(
            steps in proptest::collection::vec(step(), 1..300),
            entries_max in 1_usize..200,
            bytes_max in 300_usize..60_000,
            admission in prop_oneof![Just(Admission::Lru), Just(Admission::Adaptive)],
        ) {
            let l1 = L1::new(entries_max, bytes_max).admitting(admission);
            let mut model: HashMap<u8, (f32, Instant)> = HashMap::new();
            let mut now = Instant::now();
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait { seconds } => now += Duration::from_secs(seconds),
                    Step::Clear => { l1.clear(); model.clear(); }
                    Step::Get(number) => {
                        // Evicted is fine, expired or foreign is not.
                        if let Some(found) = l1.get(&key(number), now) {
                            let (value, expires) = model[&number];
                            prop_assert!(found.pooled[0] == value && now < expires);
                        }
                    }
                    Step::Insert { number, width, ttl_seconds } => {
                        let known = l1.get(&key(number), now).map(|vector| vector.pooled[0]);
                        let ttl = Duration::from_secs(ttl_seconds);
                        let value = at as f32;
                        let seen = l1.insert(key(number), vector(value, width), ttl, now, l1.generation());
                        prop_assert_eq!(seen.pooled[0], known.unwrap_or(value));
                        if known.is_none() {
                            model.insert(number, (value, now + ttl));
                        }
                    }
                }
                let size = l1.size();
                prop_assert!(size.entries <= entries_max && size.bytes <= bytes_max, "{size:?}");
            }
        }
    }
}

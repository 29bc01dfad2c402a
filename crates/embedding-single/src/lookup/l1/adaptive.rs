//! New vectors make way for each other, until one is asked for again: CAR, with the counters of S3-FIFO.
//!
//! ```text
//!  new ─▶ arrivals ─▶ used meanwhile? ── yes ─▶ residents ─▶ used meanwhile? ── yes ─▶ to their end, one use less
//!                           └─ no ─▶ goes                          └─ no ─▶ goes
//!
//!  gone ─▶ its key is remembered ─▶ back meanwhile ─▶ residents, and the list it went from gets a larger part
//! ```
//!
//! A text that comes once passes through the arrivals and pushes out nothing but its like. One that was asked for while it
//! was there, or comes back while its key is remembered, becomes a resident. Which of both lists is too short is learnt:
//! what comes back to the arrivals makes them a larger part, what comes back to the residents a smaller one. So a load
//! whose texts are asked for a few times soon after their first gets a large part for them, as in plain LRU, and one of
//! popular texts beside scans gets a small part.
//!
//! After Bansal, Modha: "CAR: Clock with Adaptive Replacement", FAST 2004. Other than there, a resident is spared as often
//! as it was used, three times at most, as in S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO Queues are All You Need for
//! Cache Eviction", SOSP 2023): what is popular stays longer. Each list remembers half as many keys as there are vectors;
//! there either may remember nearly as many. What fills an empty cache becomes a resident beside the arrivals' part, so
//! that of a loop longer than the cache a part is hit each time (both as in the crate quick_cache). An eviction passes over
//! a bounded number.
//!
//! Goals: a use costs one look into a table or two, and moves nothing; O(1) for each call; what is remembered is bounded by
//! what is there, so that `OVERHEAD_BYTES` covers it.
//!
//! Non-goals: parts in bytes, they are in entries; the bounds of the shard are exact all the same.

use lru::LruCache;
use tokio::time::Instant;

use super::{Entry, ghosts::Ghosts, policy::Policy};
use crate::key::CacheKey;

/// Uses that are counted: a resident is passed over as often.
const USES_MAX: u8 = 3;
/// The part of the entries that arrivals may be, at first and at its ends: neither list ever starves.
const ARRIVALS_SHARE: f64 = 0.1;
const ARRIVALS_SHARE_MIN: f64 = 0.01;
const ARRIVALS_SHARE_MAX: f64 = 0.95;
/// Entries that an eviction passes over at most, as the lock is held meanwhile; if all of these were used, the oldest
/// arrival goes.
const SPARED_MAX: usize = 256;
/// Vectors that are there for each key that is remembered, in each of the two lists.
const ENTRIES_PER_GHOST: usize = 2;

/// The entries of one shard.
#[derive(Debug)]
pub(super) struct Adaptive {
    /// Not asked for again yet, as far as was seen when it was their turn: oldest first.
    arrivals: LruCache<CacheKey, Held>,
    /// Asked for again: the next one to be looked at first.
    residents: LruCache<CacheKey, Held>,
    /// Who went from the arrivals.
    arrivals_gone: Ghosts,
    /// Who went from the residents.
    residents_gone: Ghosts,
    /// The part of all that the arrivals may be.
    arrivals_share: f64,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    /// Since it came, or since it was passed over.
    uses: u8,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            arrivals: LruCache::unbounded(),
            residents: LruCache::unbounded(),
            arrivals_gone: Ghosts::default(),
            residents_gone: Ghosts::default(),
            arrivals_share: ARRIVALS_SHARE,
        }
    }
}

impl Policy for Adaptive {
    fn len(&self) -> usize {
        self.arrivals.len() + self.residents.len()
    }

    fn get(&mut self, key: &CacheKey) -> Option<&Entry> {
        let held = self.residents.peek_mut(key).or_else(|| self.arrivals.peek_mut(key))?;
        held.uses = (held.uses + 1).min(USES_MAX);
        Some(&held.entry)
    }

    fn put(&mut self, key: CacheKey, entry: Entry, was_full: bool) {
        let came_back = self.came_back(&key);
        let is_resident = came_back || (!was_full && self.has_enough_arrivals());
        let list = if is_resident { &mut self.residents } else { &mut self.arrivals };
        list.put(key, Held { entry, uses: 0 });
    }

    fn evict(&mut self, now: Instant) -> Option<Entry> {
        let is_found = (0..SPARED_MAX).any(|_| !self.spares_next(now));
        let is_arrival = if is_found { self.is_next_an_arrival() } else { !self.arrivals.is_empty() };
        let (list, gone) = if is_arrival {
            (&mut self.arrivals, &mut self.arrivals_gone)
        } else {
            (&mut self.residents, &mut self.residents_gone)
        };
        let (key, held) = list.pop_lru()?;
        if now < held.entry.expires {
            gone.note(&key);
        }
        self.bound_ghosts();
        Some(held.entry)
    }

    fn remove(&mut self, key: &CacheKey) -> Option<Entry> {
        let held = self.residents.pop(key).or_else(|| self.arrivals.pop(key))?;
        self.bound_ghosts();
        Some(held.entry)
    }
}

impl Adaptive {
    fn has_enough_arrivals(&self) -> bool {
        self.arrivals.len() as f64 > self.arrivals_share * self.len() as f64
    }

    fn is_next_an_arrival(&self) -> bool {
        self.residents.is_empty() || self.has_enough_arrivals()
    }

    /// Passes over the next one to go, if it was used since it was looked at last and is not past its time.
    fn spares_next(&mut self, now: Instant) -> bool {
        let is_arrival = self.is_next_an_arrival();
        let next = if is_arrival { self.arrivals.peek_lru() } else { self.residents.peek_lru() };
        let Some((&key, held)) = next else { return false };
        if held.uses == 0 || held.entry.expires <= now {
            return false;
        }
        if is_arrival {
            self.settle(&key)
        } else {
            self.pass_over(&key)
        }
        true
    }

    /// An arrival becomes a resident.
    fn settle(&mut self, key: &CacheKey) {
        if let Some(held) = self.arrivals.pop(key) {
            self.residents.put(*key, Held { uses: 0, ..held });
        }
    }

    /// A resident has its next turn after all the others.
    fn pass_over(&mut self, key: &CacheKey) {
        if let Some(held) = self.residents.get_mut(key) {
            held.uses -= 1;
        }
    }

    /// Whether `key` went not long ago; if so, the list from which it went was too short. The less that list remembers
    /// beside the other, the more it says.
    fn came_back(&mut self, key: &CacheKey) -> bool {
        let arrivals = self.arrivals_gone.len() as f64;
        let residents = self.residents_gone.len() as f64;
        let step = if self.arrivals_gone.take(key) {
            (residents / arrivals).max(1.0)
        } else if self.residents_gone.take(key) {
            -(arrivals / residents).max(1.0)
        } else {
            return false;
        };
        let share = self.arrivals_share + step / self.len().max(1) as f64;
        self.arrivals_share = share.clamp(ARRIVALS_SHARE_MIN, ARRIVALS_SHARE_MAX);
        true
    }

    /// After one went: forgets one of each list at most.
    fn bound_ghosts(&mut self) {
        let count_max = self.len().div_ceil(ENTRIES_PER_GHOST);
        self.arrivals_gone.forget_beyond(count_max);
        self.residents_gone.forget_beyond(count_max);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ops::Range, sync::Arc, time::Duration};

    use proptest::prelude::*;
    use protocol::inference::PrecisionClass;

    use super::*;
    use crate::lookup::l1::CachedVector;

    const TTL: Duration = Duration::from_secs(60);

    fn key(number: u16) -> CacheKey {
        CacheKey(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    /// A shard with room for so many entries, as `L1` fills one.
    struct Shard {
        adaptive: Adaptive,
        room: usize,
        now: Instant,
    }

    impl Shard {
        fn new(room: usize) -> Self {
            Self { adaptive: Adaptive::default(), room, now: Instant::now() }
        }

        /// Whether it holds `number`; if not, it is given it.
        fn ask(&mut self, number: u16) -> bool {
            let is_hit = self.adaptive.get(&key(number)).is_some();
            if !is_hit {
                self.insert(number);
            }
            is_hit
        }

        fn insert(&mut self, number: u16) {
            let was_full = self.adaptive.len() == self.room;
            if was_full {
                self.adaptive.evict(self.now).unwrap();
            }
            let vector = CachedVector {
                pooled: [].into(),
                tokens: 1,
                truncated: false,
                class: PrecisionClass::Float32,
            };
            let entry = Entry { vector: Arc::new(vector), expires: self.now + TTL };
            self.adaptive.put(key(number), entry, was_full);
        }

        fn holds(&self, number: u16) -> bool {
            let Adaptive { arrivals, residents, .. } = &self.adaptive;
            arrivals.contains(&key(number)) || residents.contains(&key(number))
        }

        fn held_of(&self, numbers: Range<u16>) -> usize {
            numbers.filter(|number| self.holds(*number)).count()
        }
    }

    #[test]
    fn a_scan_of_texts_asked_once_pushes_out_nothing_that_is_in_use() {
        let mut shard = Shard::new(100);
        for _ in 0..3 {
            (0..80).for_each(|number| {
                shard.ask(number);
            });
        }
        (1000..3000).for_each(|number| {
            shard.ask(number);
        });
        assert_eq!(shard.held_of(0..80), 80);
    }

    #[test]
    fn a_new_text_is_kept_at_its_first_time_while_others_arrive() {
        let mut shard = Shard::new(100);
        (0..105).for_each(|number| {
            shard.ask(number);
        });
        assert!(shard.ask(104) && shard.ask(103));
    }

    #[test]
    fn what_left_early_and_comes_back_stays_beside_those_in_use() {
        let mut shard = Shard::new(100);
        (0..130).for_each(|number| {
            shard.ask(number);
        });
        let left = (100..130).find(|number| !shard.holds(*number)).unwrap();
        assert!(!shard.ask(left), "it left early");
        (1000..1050).for_each(|number| {
            shard.ask(number);
        });
        assert!(shard.ask(left), "more arrivals than there is room for did not push it out");
    }

    #[test]
    fn arrivals_get_a_larger_part_where_they_come_back_after_they_left_and_lose_it_to_what_stays_in_use() {
        let mut shard = Shard::new(100);
        // Each text comes twice, with more others in between than the arrivals have room for.
        for start in (0..4000).step_by(30) {
            (start..start + 30).chain(start..start + 30).for_each(|number| {
                shard.ask(number);
            });
        }
        let grown = shard.adaptive.arrivals_share;
        assert!(grown > 2.0 * ARRIVALS_SHARE, "{grown}");
        // Eighty stay in use; those that do not fit beside so many arrivals come back each time.
        for round in 0..50 {
            (5000..5080).chain(5000..5080).chain(10_000 + 20 * round..10_020 + 20 * round).for_each(
                |number| {
                    shard.ask(number);
                },
            );
        }
        assert!(shard.adaptive.arrivals_share < grown, "{}", shard.adaptive.arrivals_share);
    }

    #[test]
    fn of_a_loop_longer_than_the_cache_a_part_is_hit() {
        let mut shard = Shard::new(100);
        let hits = (0..300).cycle().take(3000).filter(|number| shard.ask(*number)).count();
        assert!(hits > 3000 / 5, "{hits}");
    }

    #[test]
    fn what_is_past_its_time_goes_before_what_was_used_less_and_is_not_remembered() {
        let mut shard = Shard::new(10);
        (0..10).for_each(|number| {
            shard.ask(number);
            shard.ask(number);
        });
        shard.now += TTL;
        shard.insert(100);
        assert_eq!(shard.held_of(0..10), 9);
        assert_eq!(shard.adaptive.arrivals_gone.len() + shard.adaptive.residents_gone.len(), 0);
    }

    #[test]
    fn where_all_are_in_use_an_eviction_passes_over_a_few_and_takes_one() {
        let mut shard = Shard::new(1000);
        (0..1000).cycle().take(5000).for_each(|number| {
            shard.ask(number);
        });
        shard.insert(2000);
        assert_eq!(shard.adaptive.len(), 1000);
        let uses = shard.adaptive.residents.iter().map(|(_, held)| held.uses);
        let spared = uses.filter(|uses| *uses == USES_MAX - 1).count();
        assert!((1..=SPARED_MAX).contains(&spared), "{spared}");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(u16),
        Remove(u16),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0_u16..100).prop_map(Step::Ask),
            1 => (0_u16..100).prop_map(Step::Remove),
            1 => Just(Step::Evict),
        ]
    }

    proptest! {
        #[test]
        fn every_key_is_held_once_and_no_more_keys_are_remembered_than_held(
            steps in proptest::collection::vec(step(), 1..500),
            room in 1_usize..60,
        ) {
            let mut shard = Shard::new(room);
            let mut model: BTreeSet<u16> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Ask(number) => prop_assert_eq!(shard.ask(number), !model.insert(number)),
                    Step::Remove(number) => {
                        prop_assert_eq!(shard.adaptive.remove(&key(number)).is_some(), model.remove(&number));
                    }
                    Step::Evict => prop_assert_eq!(shard.adaptive.evict(shard.now).is_some(), !model.is_empty()),
                }
                // Which ones were evicted is not the model's business.
                let gone = model.extract_if(.., |number| !shard.holds(*number)).count();
                prop_assert!(gone <= 1);
                let Adaptive { arrivals_gone, residents_gone, .. } = &shard.adaptive;
                prop_assert_eq!(shard.adaptive.len(), model.len());
                prop_assert!(model.len() <= room);
                prop_assert!(arrivals_gone.len().max(residents_gone.len()) <= room.div_ceil(ENTRIES_PER_GHOST));
                prop_assert!(arrivals_gone.len() + residents_gone.len() <= model.len() + 2);
            }
        }
    }
}

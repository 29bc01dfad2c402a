//! Where each record lies, in memory: 25 bytes an entry, and 29 to 58 with the free places of its table.
//!
//! ```text
//!  namespace ─▶ stripe, by the ninth byte of the key ─▶ first 8 bytes of the key ─▶ slot
//!
//!  slot   fingerprint  u64   the first 8 bytes of the key
//!         segment      u32
//!         offset       u32
//!         rest         u64   expires, ms since 1970 (42 bits) │ bytes (17) │ precision (2) │ visits (2)
//! ```
//!
//! A table for each namespace, so that forgetting one is dropping its tables. The fingerprint finds an entry; the record
//! repeats the whole key, and a reader compares it: of two keys with one fingerprint (1 in 37 million stores of a million
//! entries has such a pair) the second is not kept. Stripes make short what holds up everybody: a table that grows.
//!
//! Visits count to three under a lock that others share; a race may lose one.

use std::{array, collections::HashMap};

use hashbrown::HashTable;

use super::{
    sync::atomic::{AtomicU64, Ordering},
    vector::{Precision, Prefix},
};

/// Namespaces that hold entries at once.
const NAMESPACES_MAX: usize = 1024;
/// Tables of a namespace.
pub(super) const STRIPES: usize = 64;
/// Bytes of memory that an entry takes at most.
pub(super) const ENTRY_BYTES_MAX: usize = 64;

const EXPIRES_BITS: u32 = 42;
const BYTES_BITS: u32 = 17;
const PRECISION_BITS: u32 = 2;
const VISITS_SHIFT: u32 = EXPIRES_BITS + BYTES_BITS + PRECISION_BITS;
/// Visits beyond this one are not counted.
const VISITS_MAX: u8 = 3;

/// The entries of a namespace.
#[derive(Debug)]
pub(super) struct Entries(Box<[HashTable<Slot>; STRIPES]>);

/// Where a record lies, and what decides whether it is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) bytes: u32,
    pub(super) precision: Precision,
    pub(super) expires_ms: u64,
}

#[derive(Debug)]
struct Slot {
    fingerprint: u64,
    segment: u32,
    offset: u32,
    rest: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    namespaces: HashMap<Box<str>, Entries>,
    entries: usize,
}

fn fingerprint(prefix: &Prefix) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = prefix.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Keys are digests; whoever sends others shall not fill one chain of places.
fn spread(fingerprint: u64) -> u64 {
    let mixed = (fingerprint ^ (fingerprint >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn field(rest: u64, shift: u32, bits: u32) -> u64 {
    (rest >> shift) & ((1 << bits) - 1)
}

impl Slot {
    fn new(fingerprint: u64, location: Location, visits: u8) -> Self {
        let expires_ms = location.expires_ms.min((1 << EXPIRES_BITS) - 1);
        let precision = match location.precision {
            Precision::Float32 => 0,
            Precision::Bfloat16 => 1,
            Precision::Float16 => 2,
            Precision::Int8 => 3,
        };
        let rest = expires_ms
            | (u64::from(location.bytes) << EXPIRES_BITS)
            | (precision << (EXPIRES_BITS + BYTES_BITS))
            | (u64::from(visits.min(VISITS_MAX)) << VISITS_SHIFT);
        let (segment, offset) = (location.segment, location.offset);
        Self { fingerprint, segment, offset, rest: AtomicU64::new(rest) }
    }

    fn location(&self) -> Location {
        let rest = self.rest.load(Ordering::Relaxed);
        let precision = match field(rest, EXPIRES_BITS + BYTES_BITS, PRECISION_BITS) {
            0 => Precision::Float32,
            1 => Precision::Bfloat16,
            2 => Precision::Float16,
            _ => Precision::Int8,
        };
        Location {
            segment: self.segment,
            offset: self.offset,
            bytes: u32::try_from(field(rest, EXPIRES_BITS, BYTES_BITS)).unwrap_or(u32::MAX),
            precision,
            expires_ms: field(rest, 0, EXPIRES_BITS),
        }
    }

    fn visits(&self) -> u8 {
        u8::try_from(self.rest.load(Ordering::Relaxed) >> VISITS_SHIFT).unwrap_or(VISITS_MAX)
    }

    fn visit(&self) {
        if self.visits() < VISITS_MAX {
            // At the top of the word: one too many in a race drops out of it.
            self.rest.fetch_add(1 << VISITS_SHIFT, Ordering::Relaxed);
        }
    }
}

impl Entries {
    fn new() -> Self {
        Self(Box::new(array::from_fn(|_| HashTable::new())))
    }

    fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.0) + self.0.iter().map(HashTable::allocation_size).sum::<usize>()
    }

    fn find(&self, prefix: &Prefix) -> Option<&Slot> {
        let wanted = fingerprint(prefix);
        self.0[stripe(prefix)].find(spread(wanted), |slot| slot.fingerprint == wanted)
    }

    fn take(&mut self, prefix: &Prefix) -> Option<Slot> {
        let wanted = fingerprint(prefix);
        let table = &mut self.0[stripe(prefix)];
        let found = table.find_entry(spread(wanted), |slot| slot.fingerprint == wanted);
        found.ok().map(|found| found.remove().0)
    }

    /// Where each of them lies.
    pub(super) fn locations(&self) -> impl Iterator<Item = Location> {
        self.0.iter().flatten().map(Slot::location)
    }
}

fn stripe(prefix: &Prefix) -> usize {
    usize::from(prefix.0[8]) % STRIPES
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.namespaces.values().map(Entries::bytes).sum()
    }

    pub(super) fn find(&self, namespace: &str, prefix: &Prefix) -> Option<Location> {
        self.namespaces.get(namespace)?.find(prefix).map(Slot::location)
    }

    /// The same for somebody who wants the record.
    pub(super) fn visit(&self, namespace: &str, prefix: &Prefix) -> Option<Location> {
        let slot = self.namespaces.get(namespace)?.find(prefix)?;
        slot.visit();
        Some(slot.location())
    }

    /// Visits since it was written or moved; 0 to 3.
    pub(super) fn visits(&self, namespace: &str, prefix: &Prefix) -> u8 {
        let slot = self.namespaces.get(namespace).and_then(|entries| entries.find(prefix));
        slot.map_or(0, Slot::visits)
    }

    /// True if an entry of `namespace` may be added.
    pub(super) fn has_room_for(&mut self, namespace: &str) -> bool {
        if self.namespaces.len() < NAMESPACES_MAX || self.namespaces.contains_key(namespace) {
            return true;
        }
        self.namespaces.retain(|_, entries| entries.len() > 0);
        self.namespaces.len() < NAMESPACES_MAX
    }

    /// Where the record was that had the place before.
    pub(super) fn insert(
        &mut self,
        namespace: &str,
        prefix: &Prefix,
        location: Location,
        visits: u8,
    ) -> Option<Location> {
        let entries = match self.namespaces.get_mut(namespace) {
            Some(entries) => entries,
            None => self.namespaces.entry(namespace.into()).or_insert_with(Entries::new),
        };
        let before = entries.take(prefix).map(|slot| slot.location());
        let slot = Slot::new(fingerprint(prefix), location, visits);
        let table = &mut entries.0[stripe(prefix)];
        table.insert_unique(spread(slot.fingerprint), slot, |slot| spread(slot.fingerprint));
        self.entries += usize::from(before.is_none());
        before
    }

    /// Where the record was.
    pub(super) fn remove(&mut self, namespace: &str, prefix: &Prefix) -> Option<Location> {
        let removed = self.namespaces.get_mut(namespace)?.take(prefix)?;
        self.entries -= 1;
        Some(removed.location())
    }

    /// Forgets a namespace. What it held is returned, to be freed where nobody waits for it.
    pub(super) fn take_namespace(&mut self, namespace: &str) -> Option<Entries> {
        let entries = self.namespaces.remove(namespace);
        self.entries -= entries.as_ref().map_or(0, |entries| entries.len());
        entries
    }

    /// Forgets everything; what there was.
    pub(super) fn take_all(&mut self) -> Vec<Entries> {
        self.entries = 0;
        std::mem::take(&mut self.namespaces).into_values().collect()
    }

    /// Removes the entries of a stripe that do not lie where `keep` says; how many those were. Walks the whole stripe.
    pub(super) fn retain_in(&mut self, stripe: usize, keep: impl Fn(&Location) -> bool) -> usize {
        let mut gone = 0;
        for entries in self.namespaces.values_mut() {
            let table = &mut entries.0[stripe];
            let before = table.len();
            table.retain(|slot| keep(&slot.location()));
            gone += before - table.len();
        }
        self.entries -= gone;
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(segment: u32) -> Location {
        Location { segment, offset: 28, bytes: 200, precision: Precision::Float32, expires_ms: 9 }
    }

    const ONE: Prefix = Prefix([1; 16]);

    #[test]
    fn namespaces_do_not_see_each_other_and_the_count_is_right() {
        let mut index = Index::default();
        assert_eq!(index.insert("a", &ONE, location(1), 0), None);
        assert_eq!(index.insert("b", &ONE, location(2), 0), None);
        assert_eq!(index.insert("b", &ONE, location(3), 0), Some(location(2)));
        assert_eq!(index.len(), 2);
        assert_eq!(index.find("a", &ONE), Some(location(1)));
        drop(index.take_namespace("b"));
        assert_eq!((index.len(), index.find("b", &ONE)), (1, None));
        let gone: usize =
            (0..STRIPES).map(|stripe| index.retain_in(stripe, |found| found.segment != 1)).sum();
        assert_eq!((gone, index.len()), (1, 0));
    }

    #[test]
    fn visits_are_counted_to_three_and_begin_anew_with_a_new_record() {
        let mut index = Index::default();
        index.insert("a", &ONE, location(1), 0);
        for expected in [1, 2, 3, 3, 3] {
            assert_eq!(index.visit("a", &ONE), Some(location(1)));
            assert_eq!(index.visits("a", &ONE), expected);
        }
        index.insert("a", &ONE, location(2), 0);
        assert_eq!((index.visits("a", &ONE), index.visits("a", &Prefix([2; 16]))), (0, 0));
    }

    #[test]
    fn namespaces_are_bounded_and_empty_ones_make_way() {
        let mut index = Index::default();
        for number in 0..NAMESPACES_MAX {
            index.insert(&number.to_string(), &ONE, location(1), 0);
        }
        assert!(!index.has_room_for("another") && index.has_room_for("7"));
        index.remove("7", &ONE);
        assert!(index.has_room_for("another"));
    }

    #[test]
    fn an_entry_takes_no_more_memory_than_is_said() {
        let mut index = Index::default();
        let empty = Entries::new().bytes();
        for number in 0..200_000_u64 {
            let digest = blake(number);
            index.insert("a", &Prefix(digest), location(1), 0);
            let bytes = index.bytes() - empty;
            // A table has at least a handful of places.
            assert!(number < 5_000 || bytes <= index.len() * ENTRY_BYTES_MAX, "{bytes} at {number}");
        }
    }

    fn blake(number: u64) -> [u8; 16] {
        let spread = |seed: u64| spread(number.wrapping_add(seed).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let halves = [spread(1).to_le_bytes(), spread(1 << 40).to_le_bytes()].concat();
        array::from_fn(|index| halves[index])
    }

    proptest! {
        #[test]
        fn what_a_slot_holds_is_read_from_it(
            segment in any::<u32>(),
            offset in any::<u32>(),
            bytes in 0..1_u32 << BYTES_BITS,
            expires_ms in 0..1_u64 << EXPIRES_BITS,
            precision in prop::sample::select(vec![
                Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8,
            ]),
            visits in 0..4_u8,
        ) {
            let location = Location { segment, offset, bytes, precision, expires_ms };
            let slot = Slot::new(7, location, 0);
            (0..visits).for_each(|_| slot.visit());
            prop_assert_eq!((slot.location(), slot.visits()), (location, visits));
        }
    }
}

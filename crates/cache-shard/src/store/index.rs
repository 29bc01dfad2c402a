//! Where each record lies, in memory: 41 bytes an entry, and 47 to 94 with the free places of its map.
//!
//! ```text
//!  namespace ─▶ stripe, by the first byte of the key ─▶ first 16 bytes of the key ─▶ segment, offset
//! ```
//!
//! A map for each namespace, so that forgetting one is dropping its maps. The first 16 bytes of a key find an entry; the
//! record repeats the whole key, and a reader compares it. Stripes make short what holds up everybody: a map that grows,
//! and the walk for the entries of a segment that is gone.

use std::{array, collections::HashMap};

use super::vector::{Key, Precision};

/// Namespaces that hold entries at once.
const NAMESPACES_MAX: usize = 1024;
/// Maps of a namespace.
pub(super) const STRIPES: usize = 64;

type Fingerprint = [u8; 16];
type Map = HashMap<Fingerprint, Location>;

/// The entries of a namespace.
#[derive(Debug)]
pub(super) struct Entries([Map; STRIPES]);

/// Where a record lies, and what decides whether it is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) bytes: u32,
    pub(super) precision: Precision,
    pub(super) expires_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    namespaces: HashMap<Box<str>, Box<Entries>>,
    entries: usize,
}

fn fingerprint(key: &Key) -> Fingerprint {
    array::from_fn(|index| key.0[index])
}

impl Entries {
    fn new() -> Box<Self> {
        Box::new(Self(array::from_fn(|_| HashMap::new())))
    }

    fn len(&self) -> usize {
        self.0.iter().map(HashMap::len).sum()
    }

    fn stripe(&self, key: &Key) -> &Map {
        &self.0[usize::from(key.0[0]) % STRIPES]
    }

    fn stripe_mut(&mut self, key: &Key) -> &mut Map {
        &mut self.0[usize::from(key.0[0]) % STRIPES]
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn find(&self, namespace: &str, key: &Key) -> Option<Location> {
        self.namespaces.get(namespace)?.stripe(key).get(&fingerprint(key)).copied()
    }

    /// True if an entry of `namespace` may be added.
    pub(super) fn has_room_for(&mut self, namespace: &str) -> bool {
        if self.namespaces.len() < NAMESPACES_MAX || self.namespaces.contains_key(namespace) {
            return true;
        }
        self.namespaces.retain(|_, entries| entries.len() > 0);
        self.namespaces.len() < NAMESPACES_MAX
    }

    pub(super) fn insert(&mut self, namespace: &str, key: &Key, location: Location) {
        let entries = match self.namespaces.get_mut(namespace) {
            Some(entries) => entries,
            None => self.namespaces.entry(namespace.into()).or_insert_with(Entries::new),
        };
        if entries.stripe_mut(key).insert(fingerprint(key), location).is_none() {
            self.entries += 1;
        }
    }

    /// True if there was an entry.
    pub(super) fn remove(&mut self, namespace: &str, key: &Key) -> bool {
        let entries = self.namespaces.get_mut(namespace);
        let removed =
            entries.is_some_and(|entries| entries.stripe_mut(key).remove(&fingerprint(key)).is_some());
        self.entries -= usize::from(removed);
        removed
    }

    /// Removes the entry of `key` if it is still this one.
    pub(super) fn remove_exactly(&mut self, namespace: &str, key: &Key, location: Location) {
        if self.find(namespace, key) == Some(location) {
            self.remove(namespace, key);
        }
    }

    /// Forgets a namespace. What it held is returned, to be freed where nobody waits for it.
    pub(super) fn take_namespace(&mut self, namespace: &str) -> Option<Box<Entries>> {
        let entries = self.namespaces.remove(namespace);
        self.entries -= entries.as_ref().map_or(0, |entries| entries.len());
        entries
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes the entries of a stripe that do not lie where `keep` says; how many those were. Walks the whole stripe.
    pub(super) fn retain_in(&mut self, stripe: usize, keep: impl Fn(&Location) -> bool) -> usize {
        let mut gone = 0;
        for entries in self.namespaces.values_mut() {
            let map = &mut entries.0[stripe];
            let before = map.len();
            map.retain(|_, location| keep(location));
            gone += before - map.len();
        }
        self.entries -= gone;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(segment: u32) -> Location {
        Location { segment, offset: 28, bytes: 200, precision: Precision::Float32, expires_ms: 9 }
    }

    #[test]
    fn namespaces_do_not_see_each_other_and_the_count_is_right() {
        let mut index = Index::default();
        index.insert("a", &Key([1; 32]), location(1));
        index.insert("b", &Key([1; 32]), location(2));
        index.insert("b", &Key([1; 32]), location(3));
        assert_eq!(index.len(), 2);
        assert_eq!(index.find("a", &Key([1; 32])), Some(location(1)));
        drop(index.take_namespace("b"));
        assert_eq!((index.len(), index.find("b", &Key([1; 32]))), (1, None));
        let gone: usize =
            (0..STRIPES).map(|stripe| index.retain_in(stripe, |found| found.segment != 1)).sum();
        assert_eq!((gone, index.len()), (1, 0));
    }

    #[test]
    fn only_the_entry_that_was_read_is_removed() {
        let mut index = Index::default();
        index.insert("a", &Key([1; 32]), location(2));
        index.remove_exactly("a", &Key([1; 32]), location(1));
        assert_eq!(index.len(), 1);
        index.remove_exactly("a", &Key([1; 32]), location(2));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn namespaces_are_bounded_and_empty_ones_make_way() {
        let mut index = Index::default();
        for number in 0..NAMESPACES_MAX {
            index.insert(&number.to_string(), &Key([1; 32]), location(1));
        }
        assert!(!index.has_room_for("another") && index.has_room_for("7"));
        index.remove("7", &Key([1; 32]));
        assert!(index.has_room_for("another"));
    }
}

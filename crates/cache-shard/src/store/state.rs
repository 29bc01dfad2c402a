//! What readers look at: the index, the generations, the segments. Each segment knows how much of it the index leads to,
//! because every change of the index goes through here.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    generations::{Cleared, Generations},
    index::{Entries, Index, Location, STRIPES},
    segment::Segment,
    vector::Prefix,
};

#[derive(Debug, Default)]
pub(super) struct State {
    index: Index,
    pub(super) generations: Generations,
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// In the index.
    pub(super) entries: usize,
    /// On the disk, with the contents that active segments will have.
    pub(super) bytes: u64,
    /// Files of records.
    pub(super) segments: usize,
}

impl State {
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// True if an entry of `namespace` may be added.
    pub(super) fn has_room_for(&mut self, namespace: &str) -> bool {
        self.index.has_room_for(namespace)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.index.len(),
            bytes: self.segments.values().map(|segment| segment.footprint_bytes()).sum(),
            segments: self.segments.len(),
        }
    }

    /// The index leads to this record from now on.
    pub(super) fn point(&mut self, namespace: &str, prefix: &Prefix, location: Location) {
        self.point_moved(namespace, prefix, location, 0);
    }

    /// The same for a record that was visited where it was before.
    pub(super) fn point_moved(&mut self, namespace: &str, prefix: &Prefix, location: Location, visits: u8) {
        let before = self.index.insert(namespace, prefix, location, visits);
        if let Some(segment) = self.segments.get(&location.segment) {
            segment.gains(location.bytes);
        }
        self.is_dead(before);
    }

    /// The entry there was.
    pub(super) fn forget(&mut self, namespace: &str, prefix: &Prefix) -> Option<Location> {
        let removed = self.index.remove(namespace, prefix);
        self.is_dead(removed);
        removed
    }

    /// Removes the entry if it is still this one; true if it was.
    pub(super) fn forget_exactly(&mut self, namespace: &str, prefix: &Prefix, location: Location) -> bool {
        self.index.find(namespace, prefix) == Some(location) && self.forget(namespace, prefix).is_some()
    }

    /// Forgets a namespace, and with one too many all of them. What it held is returned, to be counted and freed where
    /// nobody waits for it.
    pub(super) fn clear(&mut self, namespace: &str) -> Vec<Entries> {
        match self.generations.advance(namespace) {
            Cleared::Namespace => self.index.take_namespace(namespace).into_iter().collect(),
            Cleared::Everything => self.index.take_all(),
        }
    }

    /// A record says that its namespace has had this generation; what the index holds of earlier ones is dead then. True if
    /// that is news.
    pub(super) fn has_been(&mut self, namespace: &str, generation: u64) -> bool {
        let is_news = self.generations.has_been(namespace, generation);
        if is_news {
            let forgotten = self.index.take_namespace(namespace);
            forgotten.iter().for_each(|entries| self.are_dead(entries));
        }
        is_news
    }

    /// All counts as cleared.
    pub(super) fn clear_all(&mut self) {
        self.generations.advance_all();
        let forgotten = self.index.take_all();
        forgotten.iter().for_each(|entries| self.are_dead(entries));
    }

    /// The index leads to none of these any more.
    pub(super) fn are_dead(&self, entries: &Entries) {
        entries.locations().for_each(|location| self.is_dead(Some(location)));
    }

    fn is_dead(&self, location: Option<Location>) {
        let Some(location) = location else { return };
        if let Some(segment) = self.segments.get(&location.segment) {
            segment.loses(location.bytes);
        }
    }

    /// Removes what a stripe holds of segments that are not there; how many entries those were.
    pub(super) fn sweep(&mut self, stripe: usize) -> usize {
        let Self { index, segments, .. } = self;
        index.retain_in(stripe, |location| segments.contains_key(&location.segment))
    }

    /// Bytes on the disk now.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.disk_bytes()).sum()
    }

    /// Stripes to sweep.
    pub(super) const STRIPES: usize = STRIPES;
}

//! Plain LRU: everything enters, and what was used longest ago goes.
//!
//! One pass over many texts pushes out all that is asked for again and again; where nearly all that is asked for fits, it
//! is as good as any.

use lru::LruCache;
use tokio::time::Instant;

use super::{Entry, policy::Policy};
use crate::key::CacheKey;

/// The entries of one shard in the order of their last uses.
#[derive(Debug)]
pub(super) struct Recency(LruCache<CacheKey, Entry>);

impl Default for Recency {
    fn default() -> Self {
        Self(LruCache::unbounded())
    }
}

impl Policy for Recency {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&mut self, key: &CacheKey) -> Option<&Entry> {
        self.0.get(key)
    }

    fn put(&mut self, key: CacheKey, entry: Entry, _was_full: bool) {
        self.0.put(key, entry);
    }

    fn evict(&mut self, _now: Instant) -> Option<Entry> {
        self.0.pop_lru().map(|(_, entry)| entry)
    }

    fn remove(&mut self, key: &CacheKey) -> Option<Entry> {
        self.0.pop(key)
    }
}

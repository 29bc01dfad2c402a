//! What every policy can do.

use std::fmt::Debug;

use tokio::time::Instant;

use super::Entry;
use crate::key::CacheKey;

/// The entries of one shard, and the order in which they go. How many there may be is not its business.
pub(super) trait Policy: Debug + Send {
    /// How many there are.
    fn len(&self) -> usize;

    /// The entry of `key`; that counts as a use.
    fn get(&mut self, key: &CacheKey) -> Option<&Entry>;

    /// Takes in an entry whose key is not there. `was_full`: others had to go for it.
    fn put(&mut self, key: CacheKey, entry: Entry, was_full: bool);

    /// Takes out the one that is to go first; none where it is empty.
    fn evict(&mut self, now: Instant) -> Option<Entry>;

    /// Takes out the entry of `key`.
    fn remove(&mut self, key: &CacheKey) -> Option<Entry>;
}

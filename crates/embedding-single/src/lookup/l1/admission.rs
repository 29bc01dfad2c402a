//! Who may enter a full cache, and who goes for it: what every policy can do. Each has a file of its own.

use std::fmt::Debug;

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::Instant;

use super::{Entry, adaptive::Adaptive, recency::Recency};
use crate::key::CacheKey;

/// Who may enter a full L1, and who goes for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Every vector enters, the least recently used goes.
    Lru,
    /// A new vector makes way for the next new ones, unless it is asked for again.
    #[default]
    Adaptive,
}

impl Admission {
    /// The entries of an empty shard.
    pub(super) fn start(self) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::new(Recency::default()),
            Self::Adaptive => Box::new(Adaptive::default()),
        }
    }
}

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

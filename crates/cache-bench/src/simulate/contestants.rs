//! The policies: our L1 under each of its own, an admission for LRU, and a cache that others use.
//!
//! Every entry weighs the same in each, which is what our own L1 says it weighs.

use embedding_single::{CacheAdmission, L1Alone};
use serde::Serialize;

use super::tiny_lfu::TinyLfu;
use crate::args::L1Config;

/// How a cache chooses what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Policy {
    /// Our L1, which takes in everything.
    Lru,
    /// Our L1, whose new vectors make way for each other.
    Adaptive,
    /// LRU with the admission of TinyLFU.
    TinyLfu,
    /// S3-FIFO, by `quick_cache`.
    QuickCache,
}

/// A cache of one policy.
pub(super) enum Contestant {
    Ours(L1Alone),
    TinyLfu(TinyLfu),
    QuickCache(quick_cache::unsync::Cache<[u8; 32], (), SameWeight>),
}

impl Policy {
    /// All of them, plain LRU first.
    pub(super) const ALL: [Self; 4] = [Self::Lru, Self::Adaptive, Self::TinyLfu, Self::QuickCache];

    /// As tables call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Adaptive => "adaptive",
            Self::TinyLfu => "lru + TinyLFU",
            Self::QuickCache => "quick_cache",
        }
    }

    /// An empty cache with room for the bytes of so many entries.
    pub(super) fn start(self, config: &L1Config) -> Contestant {
        let weight_bytes = L1Alone::new(1, 0, config.width, CacheAdmission::Lru).weight_bytes();
        let bytes_max = config.entries * weight_bytes;
        let ours = |admission| L1Alone::new(config.entries, bytes_max, config.width, admission);
        let weight = weight_bytes as u64;
        match self {
            Self::Lru => Contestant::Ours(ours(CacheAdmission::Lru)),
            Self::Adaptive => Contestant::Ours(ours(CacheAdmission::Adaptive)),
            Self::TinyLfu => Contestant::TinyLfu(TinyLfu::new(config.entries)),
            Self::QuickCache => {
                let room = bytes_max as u64;
                Contestant::QuickCache(quick_cache::unsync::Cache::with_weighter(
                    config.entries,
                    room,
                    SameWeight(weight),
                ))
            }
        }
    }
}

impl Contestant {
    /// Whether it holds `key`; if not, it is given it.
    pub(super) fn ask(&mut self, key: &[u8; 32]) -> bool {
        match self {
            Self::Ours(l1) => {
                let is_hit = l1.get(*key);
                if !is_hit {
                    l1.insert(*key);
                }
                is_hit
            }
            Self::TinyLfu(cache) => cache.ask(key),
            Self::QuickCache(cache) => {
                let is_hit = cache.get(key).is_some();
                if !is_hit {
                    cache.insert(*key, ());
                }
                is_hit
            }
        }
    }
}

/// For quick_cache: all weigh the same.
#[derive(Debug, Clone)]
pub(super) struct SameWeight(u64);

impl quick_cache::Weighter<[u8; 32], ()> for SameWeight {
    fn weight(&self, _key: &[u8; 32], _value: &()) -> u64 {
        self.0
    }
}

//! An L1 without its proxy, for whoever measures what it keeps.

use std::{sync::Arc, time::Duration};

use protocol::inference::PrecisionClass;
use tokio::time::Instant;

use super::{CachedVector, L1, admission::Admission};
use crate::key::CacheKey;

/// Longer than any trace.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// The L1 of a proxy, asked for keys directly. All of them share one vector, so that memory does not limit a trace;
/// each weighs what it would weigh otherwise.
#[derive(Debug)]
pub struct L1Alone {
    l1: L1,
    vector: Arc<CachedVector>,
    now: Instant,
}

impl L1Alone {
    /// An L1 of vectors of `width` numbers, with the bounds of `--cache-entries-max` and `--cache-bytes-max`.
    pub fn new(entries_max: usize, bytes_max: usize, width: usize, admission: Admission) -> Self {
        let vector = CachedVector {
            pooled: vec![0.0; width].into(),
            tokens: 1,
            truncated: false,
            class: PrecisionClass::Float32,
        };
        let l1 = L1::new(entries_max, bytes_max).admitting(admission);
        Self { l1, vector: Arc::new(vector), now: Instant::now() }
    }

    /// Whether it holds the vector of `key`; being asked for counts as a use.
    pub fn get(&self, key: [u8; 32]) -> bool {
        self.l1.get(&CacheKey(key), self.now).is_some()
    }

    /// Gives it the vector of `key`, as a proxy does once it has computed it.
    pub fn insert(&self, key: [u8; 32]) {
        self.l1.insert(CacheKey(key), self.vector.clone(), TTL, self.now, self.l1.generation());
    }

    /// What a vector weighs against `bytes_max`.
    pub fn weight_bytes(&self) -> usize {
        self.vector.weight_bytes()
    }
}

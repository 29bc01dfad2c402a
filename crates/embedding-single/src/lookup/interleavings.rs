//! L1 and the flights with all turns that their threads may take, thousands of them drawn.

mod cached;
mod flights;

use std::{sync::Arc, time::Duration};

use protocol::inference::PrecisionClass;

use super::l1::CachedVector;
use crate::key::CacheKey;

/// Longer than any test.
const TTL: Duration = Duration::from_secs(3600);

fn vector(value: usize, width: usize) -> Arc<CachedVector> {
    Arc::new(CachedVector {
        pooled: vec![value as f32; width].into(),
        tokens: 1,
        truncated: false,
        class: PrecisionClass::Float32,
    })
}

/// What was put into a vector.
fn value(vector: &CachedVector) -> usize {
    (0..100).find(|value| *value as f32 == vector.pooled[0]).unwrap()
}

/// A key of its own; which shard it is in goes by the number.
fn key(number: u8) -> CacheKey {
    CacheKey([number; 32])
}

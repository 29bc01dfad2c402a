//! The nearest neighbours of a vector, of all shards together.
//!
//! A tool for people and jobs: it asks every shard and waits for each, and it is never a way to answer a text, because a
//! neighbour's vector is not the text's.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use protocol::cache::{Neighbour, SimilarRequest, similar_request::Probe};
use tokio::time::Instant;

use super::{
    L2,
    member::Member,
    shard::{Searched, ShardError},
};
use crate::{key::CacheKey, lookup::l1::CachedVector, served::Model};

/// A shard reads all it has.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What the shards have found.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// The nearest first.
    pub(crate) nearest: Vec<Neighbour>,
    /// Vectors that were compared.
    pub(crate) compared: u64,
    /// Shards that have not answered, and why.
    pub(crate) missing: Vec<(Arc<str>, ShardError)>,
}

impl L2 {
    /// The `count` vectors of `model` that are nearest to `vector`, without that of `key`, which is its own.
    pub(crate) async fn similar(
        &self,
        model: &Model,
        key: CacheKey,
        vector: &CachedVector,
        count: u32,
    ) -> Neighbours {
        let mut bytes = Vec::new();
        vector::codec::extend_float32(&mut bytes, &vector.pooled);
        let request = SimilarRequest {
            // The shard's client knows it.
            namespace: String::new(),
            identity: Bytes::copy_from_slice(&model.identity_bytes),
            probe: Some(Probe::Vector(bytes.into())),
            count: count + 1,
        };
        let deadline = Instant::now() + SEARCH_TIMEOUT;
        let roster = self.roster();
        let asked =
            roster.members().iter().map(async |member| (member, member.similar(&request, deadline).await));
        merge(join_all(asked).await, key, count)
    }
}

fn merge(answers: Vec<(&Arc<Member>, Searched)>, key: CacheKey, count: u32) -> Neighbours {
    let mut found = Neighbours::default();
    for (member, answer) in answers {
        match answer {
            Ok((nearest, compared)) => {
                found.nearest.extend(nearest);
                found.compared += compared;
            }
            Err(error) => found.missing.push((member.name().clone(), error)),
        }
    }
    found.nearest.retain(|near| near.key != key.0.as_slice());
    found.nearest.sort_by(nearer);
    // While a shard joins, two of them may have one vector.
    found.nearest.dedup_by(|one, other| one.key == other.key);
    found.nearest.truncate(count as usize);
    found
}

fn nearer(one: &Neighbour, other: &Neighbour) -> Ordering {
    other.cosine.total_cmp(&one.cosine).then_with(|| one.key.cmp(&other.key))
}

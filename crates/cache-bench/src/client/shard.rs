//! cache-shard: GetMany and PutMany over gRPC.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use protocol::cache::{
    ElementType, GetManyRequest, GetManyResponse, NewRecord, PrecisionClass, PutManyRequest, PutStatus,
    StatsRequest, cache_client::CacheClient,
};
use service::channel::connect_lazy;
use tonic::transport::Channel;

use super::TTL_SECONDS;
use crate::keys::{Key, VECTOR_BYTES, WIDTH};

/// Of the model that computed the vectors, if one had.
const IDENTITY: [u8; 32] = [9; 32];
/// Tokens of the text of each vector, if there were one.
const TOKENS: u32 = 12;

/// A connection to cache-shard.
#[derive(Debug)]
pub(crate) struct Shard(CacheClient<Channel>);

impl Shard {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let url = format!("http://{address}").parse()?;
        let client = CacheClient::new(connect_lazy(&url)?);
        Ok(Self(client.max_decoding_message_size(usize::MAX)))
    }

    pub(super) async fn get_many(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let keys_sent = keys.iter().map(|key| Bytes::copy_from_slice(&key.digest)).collect();
        let request = GetManyRequest { namespace: String::new(), keys: keys_sent, with_text: false };
        let answer = self.0.get_many(request).await?.into_inner();
        spread(answer, keys.len())
    }

    /// Of a build that does not count them it is 0.
    pub(super) async fn index_bytes(&mut self) -> Result<Option<u64>> {
        let stats = self.0.stats(StatsRequest::default()).await?.into_inner();
        Ok(Some(stats.index_bytes).filter(|bytes| *bytes > 0))
    }

    pub(super) async fn put_many(&mut self, keys: &[Key]) -> Result<()> {
        let records = keys.iter().map(record).collect();
        let request = PutManyRequest { records, ..PutManyRequest::default() };
        let answer = self.0.put_many(request).await?.into_inner();
        for result in answer.results {
            let is_kept = matches!(result.status(), PutStatus::Accepted | PutStatus::Kept);
            ensure!(is_kept, "cache-shard answered {:?} to PutMany: {}", result.status(), result.message);
        }
        Ok(())
    }
}

fn record(key: &Key) -> NewRecord {
    NewRecord {
        key: Bytes::copy_from_slice(&key.digest),
        width: u32::try_from(WIDTH).unwrap_or(u32::MAX),
        element_type: ElementType::Float16.into(),
        precision_class: PrecisionClass::Float16.into(),
        tokens: TOKENS,
        truncated: false,
        identity: Bytes::from_static(&IDENTITY),
        vector: key.vector(),
        ttl_ms: 1000 * u64::from(TTL_SECONDS),
        text: String::new(),
        checksum: None,
    }
}

/// One place for each of `count` keys: the vectors of the hits follow each other.
fn spread(answer: GetManyResponse, count: usize) -> Result<Vec<Option<Bytes>>> {
    let GetManyResponse { hits, mut vectors, records, .. } = answer;
    let is_hit = |index: usize| hits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let found = (0..count).map(|index| {
        if !is_hit(index) {
            return Ok(None);
        }
        ensure!(vectors.len() >= VECTOR_BYTES, "cache-shard answered fewer vectors than hits");
        Ok(Some(vectors.copy_to_bytes(VECTOR_BYTES)))
    });
    let found: Vec<_> = found.collect::<Result<_>>().context("GetMany")?;
    let hits = found.iter().flatten().count();
    ensure!(
        hits == records.len() && vectors.is_empty(),
        "cache-shard answered {hits} hits and other vectors"
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use protocol::cache::Record;

    use super::*;

    fn answer(hits: u8, vectors: usize, records: usize) -> GetManyResponse {
        GetManyResponse {
            hits: vec![hits].into(),
            records: vec![Record::default(); records],
            vectors: vec![7; vectors * VECTOR_BYTES].into(),
            generation: 1,
        }
    }

    #[test]
    fn vectors_go_to_the_keys_whose_bits_are_set() {
        let found = spread(answer(0b101, 2, 2), 4).unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false]);
    }

    #[test]
    fn an_answer_that_does_not_add_up_is_refused() {
        for (hits, vectors, records) in [(0b11, 1, 2), (0b1, 2, 1), (0b1, 1, 2)] {
            assert!(spread(answer(hits, vectors, records), 4).is_err());
        }
    }
}

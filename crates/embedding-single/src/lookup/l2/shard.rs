//! The gRPC client of cache-shard, and the check of its answers.
//!
//! Invariant: an answer that contradicts itself is an error, and a record that is not of the model that was asked for, in
//! its width and a precision class that is taken, that changed on its way, or that holds a number which is none, is a miss.

#[cfg(any(test, fuzzing))]
pub(crate) mod any_answer;

use std::{error::Error, time::Duration};

use axum::http::Uri;
use bytes::Bytes;
use protocol::{
    cache::{
        ClearRequest, ElementType, GetManyRequest, GetManyResponse, GetMemoRequest, Neighbour, NewRecord,
        PutManyRequest, PutManyResponse, PutMemoRequest, Record, SimilarRequest, StatsRequest, StatsResponse,
        cache_client::CacheClient,
    },
    checksum,
};
use service::channel::connect_lazy;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::Found;
use crate::{
    key::CacheKey,
    lookup::l1::CachedVector,
    metrics::L2Call,
    precision::{self, Classes},
    served::Model,
};

/// What an answer may hold beside its vectors: for each key, and for the whole.
const RECORD_SLACK_BYTES: usize = 128;
const ANSWER_SLACK_BYTES: usize = 64 * 1024;

/// Why the shard did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShardError {
    /// Nobody answers, or whoever does is not ready.
    #[error("the cache shard cannot be reached or is not ready: {0}")]
    Unavailable(String),
    /// No answer in time.
    #[error("the cache shard has not answered in time")]
    Late,
    /// An answer that cannot be true, or a refusal of what is right.
    #[error("the cache shard answered what it should not: {0}")]
    Wrong(String),
}

impl ShardError {
    /// The call it ended, for metrics.
    pub(super) fn call(&self) -> L2Call {
        match self {
            Self::Unavailable(_) => L2Call::Unavailable,
            Self::Late => L2Call::Late,
            Self::Wrong(_) => L2Call::Wrong,
        }
    }
}

/// A checked answer to a lookup.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// One for each key, in their order.
    pub(super) found: Vec<Option<Found>>,
    /// Records that were there and are not what was asked for.
    pub(super) rejected: u64,
    /// Generation of the namespace.
    pub(super) generation: u64,
}

/// Neighbours of one shard, and how many vectors it compared.
pub(super) type Searched = Result<(Vec<Neighbour>, u64), ShardError>;

/// A client for one namespace; clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    client: CacheClient<Channel>,
    namespace: String,
    classes: Classes,
}

impl Shard {
    /// A client that connects when it is first used, and takes records of these classes. Needs a runtime.
    ///
    /// # Errors
    /// If `url` is none that can be connected to.
    pub(crate) fn new(url: &Uri, namespace: &str, classes: Classes) -> Result<Self, tonic::transport::Error> {
        let client = CacheClient::new(connect_lazy(url)?);
        Ok(Self { client, namespace: namespace.to_owned(), classes })
    }

    /// What the shard has of `keys`.
    pub(super) async fn get_many(
        &self,
        model: &Model,
        keys: &[CacheKey],
        deadline: Instant,
    ) -> Result<Answer, ShardError> {
        let answer_bytes_max =
            keys.len() * (model.width as usize * size_of::<f32>() + RECORD_SLACK_BYTES) + ANSWER_SLACK_BYTES;
        let mut client = self.client.clone().max_decoding_message_size(answer_bytes_max);
        let request = GetManyRequest {
            namespace: self.namespace.clone(),
            keys: keys.iter().map(|key| Bytes::copy_from_slice(&key.0)).collect(),
            with_text: false,
        };
        let response = within(deadline, client.get_many(until(request, deadline))).await?;
        read_answer(&response, model, &self.classes, keys).map_err(ShardError::Wrong)
    }

    /// What is nearest to the probe of `request`, and how many vectors were compared.
    pub(super) async fn similar(&self, request: &SimilarRequest, deadline: Instant) -> Searched {
        let request = SimilarRequest { namespace: self.namespace.clone(), ..request.clone() };
        let response = within(deadline, self.client.clone().similar(until(request, deadline))).await?;
        Ok((response.neighbours, response.compared))
    }

    /// Stores `records`, if the namespace is still in `generation`.
    pub(super) async fn put_many(
        &self,
        records: Vec<NewRecord>,
        generation: u64,
        deadline: Instant,
    ) -> Result<PutManyResponse, ShardError> {
        let namespace = self.namespace.clone();
        let request = PutManyRequest { namespace, records, expected_generation: generation };
        within(deadline, self.client.clone().put_many(until(request, deadline))).await
    }

    /// Forgets the namespace; answers its new generation.
    pub(super) async fn clear(&self, deadline: Instant) -> Result<u64, ShardError> {
        let request = ClearRequest { namespace: self.namespace.clone() };
        let response = within(deadline, self.client.clone().clear(until(request, deadline))).await?;
        Ok(response.generation)
    }

    /// Keeps `value` by this name, over restarts and clears.
    pub(super) async fn put_memo(
        &self,
        name: &str,
        value: Bytes,
        deadline: Instant,
    ) -> Result<(), ShardError> {
        let request = PutMemoRequest { namespace: self.namespace.clone(), name: name.to_owned(), value };
        within(deadline, self.client.clone().put_memo(until(request, deadline))).await?;
        Ok(())
    }

    /// What was kept by this name last.
    pub(super) async fn memo(&self, name: &str, deadline: Instant) -> Result<Option<Bytes>, ShardError> {
        let request = GetMemoRequest { namespace: self.namespace.clone(), name: name.to_owned() };
        Ok(within(deadline, self.client.clone().get_memo(until(request, deadline))).await?.value)
    }

    /// How the shard is.
    pub(super) async fn stats(&self, deadline: Instant) -> Result<StatsResponse, ShardError> {
        let request = StatsRequest { namespace: self.namespace.clone() };
        within(deadline, self.client.clone().stats(until(request, deadline))).await
    }
}

fn until<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ShardError> {
    match timeout_at(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        // The client's own timer may be a moment faster than ours, and calls that "cancelled".
        Ok(Err(_)) if Instant::now() >= deadline => Err(ShardError::Late),
        Ok(Err(status)) => Err(read_status(&status)),
        Err(_) => Err(ShardError::Late),
    }
}

fn read_status(status: &Status) -> ShardError {
    let shown = format!("{} ({:?})", status.message(), status.code());
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::Unknown => ShardError::Unavailable(shown),
        Code::DeadlineExceeded | Code::Cancelled => ShardError::Late,
        // How a connection that breaks shows itself.
        Code::Internal if status.source().is_some() => ShardError::Unavailable(shown),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => ShardError::Wrong(shown),
    }
}

/// Checks an answer to `keys` and takes it apart.
fn read_answer(
    response: &GetManyResponse,
    model: &Model,
    classes: &Classes,
    keys: &[CacheKey],
) -> Result<Answer, String> {
    let count = keys.len();
    let hits = read_bitmap(&response.hits, count)?;
    let records = response.records.len();
    let hit_count = hits.iter().filter(|hit| **hit).count();
    require(records == hit_count, || format!("{records} records for {hit_count} hits"))?;
    let mut rest = &response.vectors[..];
    let mut records = response.records.iter();
    let mut answer =
        Answer { found: Vec::with_capacity(count), rejected: 0, generation: response.generation };
    for (hit, key) in hits.into_iter().zip(keys) {
        let Some(record) = hit.then(|| records.next()).flatten() else {
            answer.found.push(None);
            continue;
        };
        let (numbers, behind) = rest
            .split_at_checked(bytes_of(record))
            .ok_or_else(|| format!("{} bytes of vectors, which is too few", response.vectors.len()))?;
        rest = behind;
        let is_whole = record.checksum == checksum::of_record(&key.0, record, numbers);
        let found = read_record(record, numbers, model, classes).filter(|_| is_whole);
        answer.rejected += u64::from(found.is_none());
        answer.found.push(found);
    }
    require(rest.is_empty(), || format!("{} bytes of vectors too many", rest.len()))?;
    Ok(answer)
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn read_bitmap(bitmap: &[u8], count: usize) -> Result<Vec<bool>, String> {
    require(bitmap.len() == count.div_ceil(8), || {
        format!("{} bytes of hits for {count} keys", bitmap.len())
    })?;
    let bit = |index: usize| bitmap[index / 8] & (1 << (index % 8)) != 0;
    let beyond = (count..bitmap.len() * 8).any(bit);
    require(!beyond, || "hits of keys that were not asked for".to_owned())?;
    Ok((0..count).map(bit).collect())
}

fn bytes_of(record: &Record) -> usize {
    let element_bytes = match record.element_type() {
        ElementType::Float16 => 2,
        // Of an unknown type nobody knows the size; such an answer is refused for its bytes.
        ElementType::Float32 | ElementType::Unspecified => 4,
    };
    (record.width as usize).saturating_mul(element_bytes)
}

/// The vector, where it is what `model` would give in one of the classes.
fn read_record(record: &Record, numbers: &[u8], model: &Model, classes: &Classes) -> Option<Found> {
    let class = precision::from_stored(record.precision_class());
    let is_of_model = record.identity[..] == model.identity_bytes
        && record.width == model.width
        && classes.take(class)
        && record.element_type() == precision::element_type(class)
        && record.ttl_remaining_ms > 0;
    if !is_of_model {
        return None;
    }
    let pooled = precision::decode(class, numbers)?;
    let vector =
        CachedVector { pooled: pooled.into(), tokens: record.tokens, truncated: record.truncated, class };
    let is_finite = vector.pooled.iter().all(|number| number.is_finite());
    is_finite.then(|| Found { vector, remaining: Duration::from_millis(record.ttl_remaining_ms) })
}

#[cfg(test)]
mod tests {
    use protocol::{cache::PrecisionClass, inference};

    use super::*;
    use crate::served::tests::model;

    fn read(response: &GetManyResponse, count: usize) -> Result<Answer, String> {
        let classes = Classes::new([inference::PrecisionClass::Float32, inference::PrecisionClass::Bfloat16]);
        read_answer(response, &model(), &classes, &vec![KEY; count])
    }

    fn record() -> Record {
        Record {
            width: 2,
            element_type: ElementType::Float32.into(),
            precision_class: PrecisionClass::Float32.into(),
            tokens: 3,
            truncated: false,
            identity: Bytes::copy_from_slice(&model().identity_bytes),
            created_unix_ms: 1,
            ttl_remaining_ms: 5,
            text: String::new(),
            checksum: 0,
        }
    }

    const KEY: CacheKey = CacheKey([7; 32]);

    /// The same records, each with the checksum of its part of `vectors`.
    fn summed(records: Vec<Record>, vectors: &[u8]) -> Vec<Record> {
        let mut rest = vectors;
        let sum = |record: Record| {
            let (numbers, behind) = rest.split_at(bytes_of(&record).min(rest.len()));
            rest = behind;
            Record { checksum: checksum::of_record(&KEY.0, &record, numbers), ..record }
        };
        records.into_iter().map(sum).collect()
    }

    fn response(hits: &[u8], records: Vec<Record>, numbers: &[f32]) -> GetManyResponse {
        let mut vectors = Vec::new();
        vector::codec::extend_float32(&mut vectors, numbers);
        GetManyResponse {
            hits: Bytes::copy_from_slice(hits),
            records: summed(records, &vectors),
            vectors: vectors.into(),
            generation: 7,
        }
    }

    #[test]
    fn hits_go_to_the_keys_whose_bits_are_set() {
        let numbers = [1.0, 2.0, 3.0, 4.0];
        let answer = read(&response(&[0b101], vec![record(), record()], &numbers), 3);
        let found = answer.unwrap().found;
        assert_eq!(*found[0].as_ref().unwrap().vector.pooled, [1.0, 2.0]);
        assert_eq!(found[1], None);
        assert_eq!(*found[2].as_ref().unwrap().vector.pooled, [3.0, 4.0]);
        assert_eq!(found[2].as_ref().unwrap().remaining, Duration::from_millis(5));
    }

    #[test]
    fn a_record_that_is_not_of_the_model_is_a_miss_and_its_neighbour_a_hit() {
        let foreign = [
            Record { identity: Bytes::from_static(&[9; 32]), ..record() },
            Record { identity: Bytes::new(), ..record() },
            Record { precision_class: PrecisionClass::Int8.into(), ..record() },
            // float32 numbers are not what this class is kept as.
            Record { precision_class: PrecisionClass::Bfloat16.into(), ..record() },
            Record { ttl_remaining_ms: 0, ..record() },
        ];
        for foreign in foreign {
            let shown = format!("{foreign:?}");
            let answer = response(&[0b11], vec![foreign, record()], &[1.0, 2.0, 3.0, 4.0]);
            let Answer { found, rejected, .. } = read(&answer, 2).unwrap();
            assert_eq!((&found[0], rejected), (&None, 1), "{shown}");
            assert_eq!(*found[1].as_ref().unwrap().vector.pooled, [3.0, 4.0]);
        }
        let wide =
            response(&[0b11], vec![Record { width: 3, ..record() }, record()], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(*read(&wide, 2).unwrap().found[1].as_ref().unwrap().vector.pooled, [4.0, 5.0]);
    }

    #[test]
    fn a_lower_class_that_is_taken_is_read_from_float16() {
        let mut vectors = Vec::new();
        vector::codec::extend_float16(&mut vectors, &[0.5, -2.0]);
        let half = Record {
            precision_class: PrecisionClass::Bfloat16.into(),
            element_type: ElementType::Float16.into(),
            ..record()
        };
        let records = summed(vec![half], &vectors);
        let answer = GetManyResponse { records, vectors: vectors.into(), ..response(&[1], vec![], &[]) };
        let found = read(&answer, 1).unwrap().found.remove(0).unwrap().vector;
        assert_eq!((&*found.pooled, found.class), (&[0.5, -2.0][..], inference::PrecisionClass::Bfloat16));
    }

    #[test]
    fn what_changed_on_its_way_is_a_miss() {
        let right = response(&[1], vec![record()], &[1.0, 2.0]);
        for index in 0..right.vectors.len() {
            let mut vectors = right.vectors.to_vec();
            vectors[index] ^= 1;
            let answer = read(&GetManyResponse { vectors: vectors.into(), ..right.clone() }, 1).unwrap();
            assert_eq!((answer.found, answer.rejected), (vec![None], 1), "byte {index}");
        }
        let classes = Classes::new([inference::PrecisionClass::Float32]);
        let other = read_answer(&right, &model(), &classes, &[CacheKey([8; 32])]).unwrap();
        assert_eq!((other.found, other.rejected), (vec![None], 1), "the record of another key");
    }

    #[test]
    fn numbers_that_are_none_are_a_miss() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let answer = read(&response(&[1], vec![record()], &[1.0, bad]), 1).unwrap();
            assert_eq!((answer.found, answer.rejected), (vec![None], 1));
        }
    }

    #[test]
    fn an_answer_that_cannot_be_true_gives_no_vector() {
        let lies = [
            response(&[], vec![], &[]),
            response(&[1, 0], vec![record()], &[1.0, 2.0]),
            response(&[0b10], vec![record()], &[1.0, 2.0]),
            response(&[1], vec![], &[1.0, 2.0]),
            response(&[0], vec![record()], &[1.0, 2.0]),
            response(&[1], vec![record()], &[1.0]),
            response(&[1], vec![record()], &[1.0, 2.0, 3.0]),
            response(&[1], vec![Record { width: u32::MAX, ..record() }], &[1.0, 2.0]),
        ];
        for lie in lies {
            assert!(read(&lie, 1).is_err(), "{lie:?}");
        }
    }
}

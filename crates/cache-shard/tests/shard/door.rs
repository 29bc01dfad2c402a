//! The shard over its port: gRPC and HTTP, as callers and operators see it.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cache_shard::{Config, args::Args, run};
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use protocol::cache::{
    ClearRequest, DeleteRequest, ElementType, GetManyRequest, GetManyResponse, NewRecord, PrecisionClass,
    PutManyRequest, PutStatus, StatsRequest, cache_client::CacheClient,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle, time::interval};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

/// Between two looks at what must happen.
pub const INTERVAL: Duration = Duration::from_millis(1);

/// A shard in this process.
pub struct Door {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Door {
    pub async fn open(directory: &Path, arguments: &[&str]) -> Self {
        let path = directory.to_str().unwrap();
        let arguments = [&["cache-shard", "--storage-path", path], arguments].concat();
        let config = Config::new(Args::parse_from(arguments)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(run(config, listener, shutdown.clone()));
        Self { address, shutdown, served }
    }

    pub async fn close(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }

    pub async fn client(&self) -> CacheClient<Channel> {
        client(self.address).await
    }

    async fn http(&self, path: &str) -> (u16, String) {
        http(self.address, path).await
    }
}

/// Status and body of a GET.
pub async fn http(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "shard").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A client of a shard that is ready.
pub async fn client(address: SocketAddr) -> CacheClient<Channel> {
    let mut client = CacheClient::connect(format!("http://{address}")).await.unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let mut ticks = interval(INTERVAL);
    while let Err(status) = client.stats(StatsRequest::default()).await {
        assert!(status.code() == Code::Unavailable && Instant::now() < end, "{status}");
        ticks.tick().await;
    }
    client
}

pub fn key(number: u32) -> Bytes {
    let mut key = vec![3; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    key.into()
}

pub fn vector(number: u32) -> Bytes {
    (0..4).flat_map(|index| (number as f32 + index as f32 / 8.0).to_le_bytes()).collect::<Vec<u8>>().into()
}

pub fn put(numbers: impl IntoIterator<Item = u32>) -> PutManyRequest {
    let record = |number| NewRecord {
        key: key(number),
        width: 4,
        element_type: ElementType::Float32.into(),
        precision_class: PrecisionClass::Float32.into(),
        tokens: number,
        truncated: false,
        identity: Bytes::from_static(&[9; 32]),
        vector: vector(number),
        ttl_ms: 60_000,
        text: String::new(),
        checksum: None,
    };
    PutManyRequest {
        namespace: "n".to_owned(),
        records: numbers.into_iter().map(record).collect(),
        expected_generation: 0,
    }
}

pub fn get(numbers: impl IntoIterator<Item = u32>) -> GetManyRequest {
    GetManyRequest {
        namespace: "n".to_owned(),
        keys: numbers.into_iter().map(key).collect(),
        with_text: false,
    }
}

fn bits(answer: &GetManyResponse, count: usize) -> Vec<bool> {
    (0..count).map(|index| answer.hits[index / 8] >> (index % 8) & 1 == 1).collect()
}

/// Which of the first `count` are there.
///
/// # Panics
/// For a wrong vector.
pub async fn all(client: &mut CacheClient<Channel>, count: u32) -> Vec<bool> {
    let answer = client.get_many(get(0..count)).await.unwrap().into_inner();
    let found = bits(&answer, count as usize);
    let expected: Vec<_> = (0..count).zip(&found).filter(|(_, found)| **found).collect();
    let expected: Vec<_> = expected.into_iter().map(|(number, _)| vector(number)).collect();
    assert!(answer.vectors == expected.concat(), "a wrong vector among {found:?}");
    found
}

/// What became of records that were put.
pub async fn statuses(
    client: &mut CacheClient<Channel>,
    numbers: impl IntoIterator<Item = u32>,
) -> Vec<PutStatus> {
    let answer = client.put_many(put(numbers)).await.unwrap().into_inner();
    answer.results.iter().map(|result| result.status()).collect()
}

#[tokio::test]
async fn hits_are_told_by_the_bitmap_and_packed_in_the_order_of_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &[]).await;
    let mut client = door.client().await;
    let put_answer = client.put_many(put([0, 9, 4, 2])).await.unwrap().into_inner();
    assert!(put_answer.results.iter().all(|result| result.status() == PutStatus::Accepted));
    let again = client.put_many(put([9])).await.unwrap().into_inner();
    assert_eq!(again.results[0].status(), PutStatus::Kept);
    let answer = client.get_many(get([9, 1, 2, 3, 4, 5, 6, 7, 8, 0])).await.unwrap().into_inner();
    let expected = [true, false, true, false, true, false, false, false, false, true];
    assert_eq!(bits(&answer, 10), expected);
    assert_eq!(answer.vectors, [vector(9), vector(2), vector(4), vector(0)].concat());
    assert_eq!(answer.records.iter().map(|record| record.tokens).collect::<Vec<_>>(), [9, 2, 4, 0]);
    for record in &answer.records {
        assert_eq!((record.width, record.element_type()), (4, ElementType::Float32));
        assert_eq!(record.precision_class(), PrecisionClass::Float32);
        assert_eq!(record.identity, [9; 32].as_slice());
        assert!((1..=60_000).contains(&record.ttl_remaining_ms), "{}", record.ttl_remaining_ms);
    }
    assert_eq!(answer.generation, put_answer.generation);
    door.close().await;
}

#[tokio::test]
async fn a_restart_gives_back_what_was_there_and_not_what_was_removed() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &[]).await;
    let mut client = door.client().await;
    client.put_many(put(0..20)).await.unwrap();
    let request = DeleteRequest { namespace: "n".to_owned(), keys: vec![key(3), key(99)] };
    assert_eq!(client.delete(request).await.unwrap().into_inner().deleted, 1);
    door.close().await;
    let door = Door::open(directory.path(), &[]).await;
    let answer = door.client().await.get_many(get(0..20)).await.unwrap().into_inner();
    let expected: Vec<_> = (0..20).map(|number| number != 3).collect();
    assert_eq!(bits(&answer, 20), expected);
    door.close().await;
}

#[tokio::test]
async fn a_clear_changes_the_generation_of_its_namespace_alone() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &[]).await;
    let mut client = door.client().await;
    client.put_many(put(0..5)).await.unwrap();
    let before = client.get_many(get([])).await.unwrap().into_inner().generation;
    let request = ClearRequest { namespace: "n".to_owned() };
    let cleared = client.clear(request).await.unwrap().into_inner().generation;
    let answer = client.get_many(get(0..5)).await.unwrap().into_inner();
    assert_eq!(bits(&answer, 5), [false; 5]);
    assert_eq!(answer.generation, cleared);
    assert_ne!(before, cleared);
    let other = client.stats(StatsRequest { namespace: "m".to_owned() }).await.unwrap().into_inner();
    assert_eq!((other.generation, other.entries), (before, 0));
    let stale = PutManyRequest { expected_generation: before, ..put([1]) };
    let stale = client.put_many(stale).await.unwrap().into_inner();
    assert_eq!(stale.results[0].status(), PutStatus::Stale);
    door.close().await;
}

#[tokio::test]
async fn bad_records_are_refused_alone_and_bad_calls_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &["--keys-max", "4"]).await;
    let mut client = door.client().await;
    let mut request = put([0, 1, 2, 3]);
    request.records[0].key = Bytes::from_static(b"short");
    request.records[1].precision_class = 77;
    request.records[2].vector = Bytes::from_static(&[0; 15]);
    let results = client.put_many(request).await.unwrap().into_inner().results;
    let statuses: Vec<_> = results.iter().map(|result| result.status()).collect();
    let invalid = PutStatus::Invalid;
    assert_eq!(statuses, [invalid, invalid, invalid, PutStatus::Accepted]);
    assert!(results[0].message.contains("`key` has 5 bytes"), "{}", results[0].message);
    let status = client.get_many(get(0..5)).await.unwrap_err();
    assert!(status.code() == Code::OutOfRange && status.message().contains("the limit is 4"), "{status}");
    let status = client.get_many(GetManyRequest { keys: vec![Bytes::new()], ..get([]) }).await.unwrap_err();
    assert!(status.message().contains("`keys[0]` has 0 bytes"), "{status}");
    let status = client.clear(ClearRequest { namespace: "x".repeat(65) }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    door.close().await;
}

#[tokio::test]
async fn keys_over_the_bytes_of_an_answer_are_misses() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &["--answer-bytes-max", "40"]).await;
    let mut client = door.client().await;
    client.put_many(put(0..4)).await.unwrap();
    let answer = client.get_many(get(0..4)).await.unwrap().into_inner();
    assert_eq!(bits(&answer, 4), [true, true, false, false]);
    door.close().await;
}

#[tokio::test]
async fn probes_say_what_the_shard_is_and_holds() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &["--vector-dimension", "768"]).await;
    door.client().await.put_many(put(0..3)).await.unwrap();
    let (status, body) = door.http("/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["status"]), (200, &Value::from("ready")));
    assert_eq!((&health["vector_dimension"], &health["entries"]), (&768.into(), &3.into()));
    assert_eq!((&health["role"], &health["degraded"]), (&"cache_shard".into(), &Value::Null));
    assert!(health["bytes"].as_u64().unwrap() > 3 * 16, "{body}");
    assert_eq!(door.http("/livez").await.0, 200);
    let (_, metrics) = door.http("/metrics").await;
    assert!(metrics.contains("cache_shard_records_accepted_total 3"), "{metrics}");
    let (_, info) = door.http("/info").await;
    assert!(info.contains("\"default_ttl_seconds\":86400"), "{info}");
    door.close().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_ends_the_shard_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &[]).await;
    door.client().await;
    let second = Door::open(directory.path(), &[]).await;
    let error = second.served.await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("in use by another process"), "{error:#}");
    door.close().await;
}

//! A false cache shard: a plain map that follows the rules, and every way to break them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::Router;
use bytes::Bytes;
use protocol::{
    cache::{
        ClearRequest, ClearResponse, DeleteRequest, DeleteResponse, GetManyRequest, GetManyResponse,
        GetMemoRequest, GetMemoResponse, Limits, ListRequest, ListResponse, NewRecord, PutManyRequest,
        PutManyResponse, PutMemoRequest, PutMemoResponse, PutResult, PutStatus, Record, SimilarRequest,
        SimilarResponse, StatsRequest, StatsResponse,
        cache_server::{Cache, CacheServer},
    },
    checksum,
};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use crate::served::Served;

/// What it says that its segments take.
pub(crate) const BYTES: u64 = 4096;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Honest,
    /// Lookups are never answered, probes are.
    Silent,
    /// Lookups are answered later, with what was there when they came.
    Tardy,
    /// Nothing is answered.
    Frozen,
    /// Refuses lookups.
    Refuse(Code),
    /// Takes no record for want of space.
    Full,
    /// Says that every key is a hit, and has no record.
    LieHits,
    /// Gives the vectors of another identity.
    LieIdentity,
    /// Leaves the last byte out.
    LieBytes,
    /// Gives vectors with a NaN.
    LieNumbers,
}

/// Its inner life, shared with the test.
#[derive(Debug)]
pub(crate) struct State {
    mode: watch::Sender<Mode>,
    records: watch::Sender<HashMap<Bytes, NewRecord>>,
    generation: watch::Sender<u64>,
    lookups: watch::Sender<usize>,
    clears: watch::Sender<usize>,
    probes: watch::Sender<usize>,
    namespaces: Mutex<Vec<String>>,
    memos: watch::Sender<HashMap<String, Bytes>>,
    recalls: watch::Sender<usize>,
    keys_max: watch::Sender<u32>,
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

pub(crate) struct FakeShard {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    served: Served,
}

impl FakeShard {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let state = Arc::new(State {
            mode: watch::Sender::new(Mode::Honest),
            records: watch::Sender::default(),
            generation: watch::Sender::new(7),
            lookups: watch::Sender::default(),
            clears: watch::Sender::default(),
            probes: watch::Sender::default(),
            namespaces: Mutex::default(),
            memos: watch::Sender::default(),
            recalls: watch::Sender::default(),
            keys_max: watch::Sender::new(100),
        });
        Self::start_with(state, address).await
    }

    /// Is back where it was, with what it held.
    pub(crate) async fn start_with(state: Arc<State>, address: SocketAddr) -> Self {
        let app = Router::new()
            .route_service("/sutra.cache.v1.Cache/{*rest}", CacheServer::new(Service(state.clone())));
        let served = Served::start(app, address).await;
        Self { state, address: served.address, served }
    }

    /// Goes away; what it held can be taken up again.
    pub(crate) async fn stop(self) -> Arc<State> {
        self.served.stop().await;
        self.state
    }

    /// The arguments of a proxy that uses it alone.
    pub(crate) fn arguments(&self) -> [String; 2] {
        ["--shard-port".to_owned(), self.address.port().to_string()]
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state.mode.send_replace(mode);
    }

    /// Lookups so far.
    pub(crate) fn lookups(&self) -> usize {
        *self.state.lookups.borrow()
    }

    /// Clears so far.
    pub(crate) fn clears(&self) -> usize {
        *self.state.clears.borrow()
    }

    /// Records it holds now.
    pub(crate) fn held(&self) -> usize {
        self.state.records.borrow().len()
    }

    /// Forgets its records as if they had been evicted: no clear.
    pub(crate) fn evict(&self) {
        self.state.records.send_modify(HashMap::clear);
    }

    /// Waits until this many lookups have come.
    pub(crate) async fn looked_up(&self, count: usize) {
        self.state.lookups.subscribe().wait_for(|lookups| *lookups >= count).await.unwrap();
    }

    /// The records, once there are this many.
    pub(crate) async fn stored(&self, count: usize) -> Vec<NewRecord> {
        let mut records = self.state.records.subscribe();
        let stored = records.wait_for(|records| records.len() >= count).await.unwrap();
        stored.values().cloned().collect()
    }

    /// Waits until a memo of this name is kept.
    pub(crate) async fn remembers(&self, name: &str) {
        self.state.memos.subscribe().wait_for(|memos| memos.contains_key(name)).await.unwrap();
    }

    /// Waits until it was asked how it is this many times more.
    pub(crate) async fn probed(&self, more: usize) {
        let mut probes = self.state.probes.subscribe();
        let before = *probes.borrow();
        probes.wait_for(|probes| *probes >= before + more).await.unwrap();
    }

    /// Waits until memos were asked for this many times more.
    pub(crate) async fn recalled(&self, more: usize) {
        let mut recalls = self.state.recalls.subscribe();
        let before = *recalls.borrow();
        recalls.wait_for(|recalls| *recalls >= before + more).await.unwrap();
    }

    /// Says another limit from now on.
    pub(crate) fn set_keys_max(&self, keys_max: u32) {
        self.state.keys_max.send_replace(keys_max);
    }

    /// Spoils all memos.
    pub(crate) fn garble_memos(&self) {
        self.state.memos.send_modify(|memos| {
            memos.values_mut().for_each(|value| *value = Bytes::from_static(b"\xff rubbish"));
        });
    }

    /// The namespaces of all lookups and writes so far.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.state.namespaces.lock().unwrap().clone()
    }
}

impl State {
    async fn unless(&self, silent: &[Mode]) -> Mode {
        *self.mode.subscribe().wait_for(|mode| !silent.contains(mode)).await.unwrap()
    }

    fn note(&self, namespace: &str) {
        let mut namespaces = self.namespaces.lock().unwrap();
        if !namespaces.iter().any(|known| known == namespace) {
            namespaces.push(namespace.to_owned());
        }
    }

    fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    fn find(&self, keys: &[Bytes], mode: Mode) -> GetManyResponse {
        let mut hits = vec![0; keys.len().div_ceil(8)];
        let (mut found, mut vectors) = (Vec::new(), Vec::new());
        let records = self.records.borrow();
        for (index, record) in
            keys.iter().enumerate().filter_map(|(index, key)| Some((index, records.get(key)?)))
        {
            hits[index / 8] |= 1 << (index % 8);
            vectors.extend_from_slice(&record.vector);
            let identity = if mode == Mode::LieIdentity {
                Bytes::from_static(&[1; 32])
            } else {
                record.identity.clone()
            };
            found.push(Record {
                width: record.width,
                element_type: record.element_type,
                precision_class: record.precision_class,
                tokens: record.tokens,
                truncated: record.truncated,
                identity,
                created_unix_ms: 1,
                ttl_remaining_ms: record.ttl_ms,
                text: String::new(),
                checksum: 0,
            });
        }
        if mode == Mode::LieHits {
            hits.fill(0xff);
        }
        if mode == Mode::LieBytes {
            vectors.pop();
        }
        if mode == Mode::LieNumbers && !vectors.is_empty() {
            vectors[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        // What it lies about it seals as well: the checksum is not what finds it out.
        let mut rest = &vectors[..];
        let asked = keys.iter().filter(|key| records.contains_key(*key));
        for (key, record) in asked.zip(&mut found) {
            let bytes = records[key].vector.len().min(rest.len());
            let (numbers, behind) = rest.split_at(bytes);
            (record.checksum, rest) = (checksum::of_record(key, record, numbers), behind);
        }
        GetManyResponse {
            hits: hits.into(),
            records: found,
            vectors: vectors.into(),
            generation: self.generation(),
        }
    }
}

#[tonic::async_trait]
impl Cache for Service {
    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        let GetManyRequest { namespace, keys, .. } = request.into_inner();
        self.0.note(&namespace);
        self.0.lookups.send_modify(|lookups| *lookups += 1);
        let tardy = (*self.0.mode.borrow() == Mode::Tardy).then(|| self.0.find(&keys, Mode::Tardy));
        let mode = self.0.unless(&[Mode::Silent, Mode::Tardy, Mode::Frozen]).await;
        if let Some(answer) = tardy {
            return Ok(Response::new(answer));
        }
        if let Mode::Refuse(code) = mode {
            return Err(Status::new(code, "refused"));
        }
        Ok(Response::new(self.0.find(&keys, mode)))
    }

    async fn put_many(&self, request: Request<PutManyRequest>) -> Result<Response<PutManyResponse>, Status> {
        let PutManyRequest { namespace, records, expected_generation } = request.into_inner();
        self.0.note(&namespace);
        let status = if self.0.unless(&[Mode::Frozen]).await == Mode::Full {
            PutStatus::DiskFull
        } else if expected_generation != self.0.generation() {
            PutStatus::Stale
        } else {
            PutStatus::Accepted
        };
        let results =
            records.iter().map(|_| PutResult { status: status.into(), message: String::new() }).collect();
        if status == PutStatus::Accepted {
            self.0.records.send_modify(|stored| {
                stored.extend(records.into_iter().map(|record| (record.key.clone(), record)));
            });
        }
        Ok(Response::new(PutManyResponse { results, generation: self.0.generation() }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        panic!("the proxy never deletes")
    }

    async fn clear(&self, request: Request<ClearRequest>) -> Result<Response<ClearResponse>, Status> {
        self.0.note(&request.into_inner().namespace);
        self.0.unless(&[Mode::Frozen]).await;
        self.0.records.send_modify(HashMap::clear);
        self.0.clears.send_modify(|clears| *clears += 1);
        self.0.generation.send_modify(|generation| *generation = generation.wrapping_mul(31));
        Ok(Response::new(ClearResponse { generation: self.0.generation() }))
    }

    async fn put_memo(&self, request: Request<PutMemoRequest>) -> Result<Response<PutMemoResponse>, Status> {
        let PutMemoRequest { name, value, .. } = request.into_inner();
        self.0.unless(&[Mode::Frozen]).await;
        self.0.memos.send_modify(|memos| drop(memos.insert(name, value)));
        Ok(Response::new(PutMemoResponse {}))
    }

    async fn get_memo(&self, request: Request<GetMemoRequest>) -> Result<Response<GetMemoResponse>, Status> {
        self.0.unless(&[Mode::Frozen]).await;
        self.0.recalls.send_modify(|recalls| *recalls += 1);
        let value = self.0.memos.borrow().get(&request.into_inner().name).cloned();
        Ok(Response::new(GetMemoResponse { value }))
    }

    async fn similar(&self, _: Request<SimilarRequest>) -> Result<Response<SimilarResponse>, Status> {
        panic!("the proxy does not search")
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        panic!("the proxy never lists")
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        self.0.unless(&[Mode::Frozen]).await;
        self.0.probes.send_modify(|probes| *probes += 1);
        Ok(Response::new(StatsResponse {
            // Shows which limit a proxy has seen.
            entries: u64::from(*self.0.keys_max.borrow()),
            bytes: BYTES,
            generation: self.0.generation(),
            limits: Some(Limits { keys_max: *self.0.keys_max.borrow(), ..Limits::default() }),
            ..StatsResponse::default()
        }))
    }
}

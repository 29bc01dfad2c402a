//! The gRPC door: `sutra.cache.v1.Cache`. Messages end here; the store knows none.

mod messages;

use protocol::{
    cache::{
        ClearRequest, ClearResponse, DeleteRequest, DeleteResponse, GetManyRequest, GetManyResponse,
        GetMemoRequest, GetMemoResponse, Limits as LimitsMessage, ListRequest, ListResponse, PutManyRequest,
        PutManyResponse, PutMemoRequest, PutMemoResponse, SimilarRequest, SimilarResponse, StatsRequest,
        StatsResponse, cache_server::Cache,
    },
    error::{ApiError, ErrorCode},
};
use tonic::{Request, Response, Status};

use self::messages::Texts;
use crate::{
    config::{Config, Limits},
    slot::Slot,
    store::{ChangeError, Cursor, MemoError, NAMESPACE_BYTES_MAX, Patience, SimilarError, Stats, Store},
};

/// Keys that are looked up where the call came in, if all of their records are in memory: to change threads takes longer.
const KEYS_INLINE_MAX: usize = 128;

/// The service; answers once a store is in its slot.
#[derive(Debug, Clone)]
pub struct Grpc {
    slot: Slot,
    limits: Limits,
    entries_max: u64,
    bytes_max: u64,
}

impl Grpc {
    /// A door to the store in `slot`.
    pub fn new(slot: Slot, config: &Config) -> Self {
        Self {
            slot,
            limits: config.limits.clone(),
            entries_max: config.storage.entries_max as u64,
            bytes_max: config.storage.bytes_max,
        }
    }

    /// Runs `work` where it may block. A caller that goes away does not stop it: what it has begun is short and whole.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let store = self.slot.store()?;
        let worked = tokio::task::spawn_blocking(move || work(&store)).await.map_err(|error| {
            tracing::error!(%error, "a call to the store has failed");
            ApiError::new(ErrorCode::Internal, "the store failed in this call")
        })?;
        Ok(Response::new(worked?))
    }

    fn check(&self, namespace: &str, field: &'static str, count: usize) -> Result<(), ApiError> {
        if namespace.len() > NAMESPACE_BYTES_MAX {
            let message =
                format!("`namespace` has {} bytes, the limit is {NAMESPACE_BYTES_MAX}", namespace.len());
            return Err(ApiError::new(ErrorCode::Invalid, message).at_field("namespace"));
        }
        let keys_max = self.limits.keys_max;
        if count > keys_max {
            let message = format!("`{field}` holds {count}, the limit is {keys_max} a call");
            return Err(ApiError::new(ErrorCode::TooLarge, message).at_field(field));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Cache for Grpc {
    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        let GetManyRequest { namespace, keys, with_text } = request.into_inner();
        self.check(&namespace, "keys", keys.len())?;
        let answer_bytes_max = self.limits.answer_bytes_max;
        let texts = if with_text { Texts::With } else { Texts::Without };
        let keys = messages::read_keys(&keys)?;
        let located = self.slot.store()?.locate_many(&namespace, &keys);
        if keys.len() <= KEYS_INLINE_MAX
            && let Some(found) = self.slot.store()?.read_many(&located, answer_bytes_max, Patience::Now)
        {
            return Ok(Response::new(messages::write_found(&keys, found, texts)));
        }
        self.with_store(move |store| {
            let found = store.read_many(&located, answer_bytes_max, Patience::Wait);
            let found =
                found.ok_or_else(|| ApiError::new(ErrorCode::Internal, "a read that may wait did not"))?;
            Ok(messages::write_found(&keys, found, texts))
        })
        .await
    }

    async fn put_many(&self, request: Request<PutManyRequest>) -> Result<Response<PutManyResponse>, Status> {
        let PutManyRequest { namespace, records, expected_generation } = request.into_inner();
        self.check(&namespace, "records", records.len())?;
        let expected = (expected_generation != 0).then_some(expected_generation);
        self.with_store(move |store| Ok(messages::put(store, &namespace, records, expected))).await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { namespace, keys } = request.into_inner();
        self.check(&namespace, "keys", keys.len())?;
        self.with_store(move |store| {
            let keys = messages::read_keys(&keys)?;
            let deleted = store.remove_many(&namespace, &keys).map_err(unwritten)? as u64;
            Ok(DeleteResponse { deleted, generation: store.generation(&namespace) })
        })
        .await
    }

    async fn clear(&self, request: Request<ClearRequest>) -> Result<Response<ClearResponse>, Status> {
        let ClearRequest { namespace } = request.into_inner();
        self.check(&namespace, "namespace", 0)?;
        self.with_store(move |store| {
            let generation = store.clear(&namespace).map_err(unwritten)?;
            tracing::info!(namespace, generation, "a namespace was cleared");
            Ok(ClearResponse { generation })
        })
        .await
    }

    async fn put_memo(&self, request: Request<PutMemoRequest>) -> Result<Response<PutMemoResponse>, Status> {
        let PutMemoRequest { namespace, name, value } = request.into_inner();
        self.with_store(move |store| {
            store.put_memo(&namespace, &name, value).map_err(unkept)?;
            tracing::info!(namespace, name, "a memo was kept");
            Ok(PutMemoResponse {})
        })
        .await
    }

    async fn get_memo(&self, request: Request<GetMemoRequest>) -> Result<Response<GetMemoResponse>, Status> {
        let GetMemoRequest { namespace, name } = request.into_inner();
        // A memo that is being written holds up those who read, for as long as the disk takes.
        self.with_store(move |store| Ok(GetMemoResponse { value: store.memo(&namespace, &name) })).await
    }

    async fn similar(&self, request: Request<SimilarRequest>) -> Result<Response<SimilarResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.namespace, "namespace", 0)?;
        let (identity, probe, count) = messages::read_search(&request)?;
        self.with_store(move |store| {
            let found = store.similar(&request.namespace, identity, &probe, count).map_err(unsearched)?;
            Ok(messages::write_neighbours(&found))
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let ListRequest { namespace, from, count } = request.into_inner();
        let count = count as usize;
        self.check(&namespace, "count", count)?;
        if count == 0 {
            return Err(ApiError::new(ErrorCode::Invalid, "`count` is 0, the least is 1")
                .at_field("count")
                .into());
        }
        let answer_bytes_max = self.limits.answer_bytes_max;
        self.with_store(move |store| {
            let page = store.list(&namespace, Cursor(from), count, answer_bytes_max);
            Ok(messages::write_page(page))
        })
        .await
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let StatsRequest { namespace } = request.into_inner();
        self.check(&namespace, "namespace", 0)?;
        let store = self.slot.store()?;
        let limits = LimitsMessage {
            keys_max: u32::try_from(self.limits.keys_max).unwrap_or(u32::MAX),
            message_bytes_max: self.limits.message_bytes_max as u64,
            answer_bytes_max: self.limits.answer_bytes_max as u64,
            entries_max: self.entries_max,
            bytes_max: self.bytes_max,
        };
        let generation = store.generation(&namespace);
        Ok(Response::new(write_stats(store.stats(), generation, limits)))
    }
}

fn unwritten(error: ChangeError) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, error.to_string())
}

fn unsearched(error: SimilarError) -> ApiError {
    let code = match error {
        SimilarError::Busy => ErrorCode::Overloaded,
        SimilarError::NoSuchKey => ErrorCode::NotFound,
        SimilarError::NoDirection => ErrorCode::Invalid,
    };
    ApiError::new(code, error.to_string())
}

fn unkept(error: MemoError) -> ApiError {
    let code = match error {
        MemoError::Invalid(_) => ErrorCode::Invalid,
        MemoError::TooMany => ErrorCode::Overloaded,
        MemoError::Disk(_) => ErrorCode::Unavailable,
    };
    ApiError::new(code, error.to_string())
}

fn write_stats(stats: Stats, generation: u64, limits: LimitsMessage) -> StatsResponse {
    StatsResponse {
        entries: stats.entries,
        bytes: stats.bytes,
        segments: stats.segments,
        hits: stats.hits,
        misses: stats.misses,
        accepted: stats.accepted,
        kept: stats.kept,
        refused: stats.refused,
        expired: stats.expired,
        evicted: stats.evicted,
        damaged_records: stats.damaged_records,
        damaged_segments: stats.damaged_segments,
        degraded: stats.degraded.unwrap_or_default(),
        generation,
        limits: Some(limits),
        index_bytes: stats.index_bytes,
        moved: stats.moved,
        put_bytes: stats.put_bytes,
        written_bytes: stats.written_bytes,
    }
}

//! Between messages and what the store takes and gives.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    cache::{
        ElementType, GetManyResponse, ListResponse, Neighbour as NeighbourMessage,
        NewRecord as NewRecordMessage, PrecisionClass, PutManyResponse, PutResult, PutStatus, Record,
        SimilarRequest, SimilarResponse, similar_request,
    },
    checksum,
    error::{ApiError, ErrorCode},
};

use crate::store::{
    Element, Found, Hit, Identity, Key, Neighbour, Neighbours, NewRecord, Page, Precision, Probe, PutError,
    PutOutcome, Store, TroubleKind, Vector, WIDTH_MAX,
};

/// Keys of a call. A key of another length is a mistake of the caller's code, so it refuses the call.
pub(super) fn read_keys(keys: &[Bytes]) -> Result<Vec<Key>, ApiError> {
    let read = |(index, key): (usize, &Bytes)| {
        let key = <[u8; 32]>::try_from(key.as_ref()).map(Key);
        key.map_err(|_| {
            let message = format!("`keys[{index}]` has {} bytes, a key has 32", keys[index].len());
            ApiError::new(ErrorCode::Malformed, message).at_field(format!("keys[{index}]"))
        })
    };
    keys.iter().enumerate().map(read).collect()
}

/// Whether the beginnings of texts are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    With,
    Without,
}

/// Neighbours of one search.
const NEIGHBOURS_MAX: u32 = 1_000;

/// Whose neighbours are wanted, and how many.
pub(super) fn read_search(request: &SimilarRequest) -> Result<(Identity, Probe, usize), ApiError> {
    let invalid =
        |field: &'static str, message: String| ApiError::new(ErrorCode::Invalid, message).at_field(field);
    let identity = digest("identity", &request.identity).map_err(|message| invalid("identity", message))?;
    if !(1..=NEIGHBOURS_MAX).contains(&request.count) {
        let message = format!("`count` is {}, the limits are 1 and {NEIGHBOURS_MAX}", request.count);
        return Err(invalid("count", message));
    }
    let probe = match &request.probe {
        Some(similar_request::Probe::Key(key)) => {
            Probe::Stored(Key(digest("key", key).map_err(|message| invalid("key", message))?))
        }
        Some(similar_request::Probe::Vector(bytes)) => Probe::Vector(read_probe(bytes)?),
        None => return Err(invalid("probe", "neither `vector` nor `key` is there".to_owned())),
    };
    Ok((Identity(identity), probe, request.count as usize))
}

fn read_probe(bytes: &Bytes) -> Result<Vec<f32>, ApiError> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || numbers.len() > WIDTH_MAX as usize {
        let message =
            format!("`vector` has {} bytes, it has 4 for each of at most {WIDTH_MAX} numbers", bytes.len());
        return Err(ApiError::new(ErrorCode::Invalid, message).at_field("vector"));
    }
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// What a search has found, the nearest first.
pub(super) fn write_neighbours(found: &Neighbours) -> SimilarResponse {
    let neighbour = |near: &Neighbour| NeighbourMessage {
        key: Bytes::copy_from_slice(&near.key.0),
        cosine: near.cosine,
        record: Some(write_record(&near.key, &near.hit, Texts::With)),
    };
    SimilarResponse { neighbours: found.nearest.iter().map(neighbour).collect(), compared: found.compared }
}

/// A page of a list.
pub(super) fn write_page(page: Page) -> ListResponse {
    let mut response = ListResponse { next: page.next.map_or(0, |next| next.0), ..ListResponse::default() };
    let mut vectors = Vec::new();
    for (key, hit) in &page.records {
        response.keys.push(Bytes::copy_from_slice(&key.0));
        response.records.push(write_record(key, hit, Texts::With));
        vectors.extend_from_slice(&hit.vector.bytes);
    }
    response.vectors = vectors.into();
    response
}

/// What was found of `keys`, as bitmap, records and one piece of vectors.
pub(super) fn write_found(keys: &[Key], found: Found, texts: Texts) -> GetManyResponse {
    let mut bitmap = vec![0_u8; found.hits.len().div_ceil(8)];
    let bytes = found.hits.iter().flatten().map(|hit| hit.vector.bytes.len()).sum();
    let mut vectors = Vec::with_capacity(bytes);
    let mut records = Vec::new();
    for (index, (key, hit)) in keys.iter().zip(&found.hits).enumerate() {
        if let Some(hit) = hit {
            bitmap[index / 8] |= 1 << (index % 8);
            vectors.extend_from_slice(&hit.vector.bytes);
            records.push(write_record(key, hit, texts));
        }
    }
    GetManyResponse { hits: bitmap.into(), records, vectors: vectors.into(), generation: found.generation }
}

fn write_record(key: &Key, Hit { vector, created_ms, remaining, .. }: &Hit, texts: Texts) -> Record {
    let element_type = match vector.element {
        Element::Float32 => ElementType::Float32,
        Element::Float16 => ElementType::Float16,
    };
    let precision_class = match vector.precision {
        Precision::Float32 => PrecisionClass::Float32,
        Precision::Bfloat16 => PrecisionClass::Bfloat16,
        Precision::Float16 => PrecisionClass::Float16,
        Precision::Int8 => PrecisionClass::Int8,
    };
    let mut record = Record {
        width: vector.width,
        element_type: element_type.into(),
        precision_class: precision_class.into(),
        tokens: vector.tokens,
        truncated: vector.truncated,
        identity: Bytes::copy_from_slice(&vector.identity.0),
        created_unix_ms: *created_ms,
        ttl_remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
        text: match texts {
            Texts::With => String::from_utf8_lossy(&vector.text).into_owned(),
            Texts::Without => String::new(),
        },
        checksum: 0,
    };
    record.checksum = checksum::of_record(&key.0, &record, &vector.bytes);
    record
}

/// Puts the records that can be read; each has its result at its place.
pub(super) fn put(
    store: &Store,
    namespace: &str,
    records: Vec<NewRecordMessage>,
    expected_generation: Option<u64>,
) -> PutManyResponse {
    let read: Vec<_> = records.into_iter().map(read_record).collect();
    let good: Vec<_> = read.iter().flatten().cloned().collect();
    let answer = store.put_many(namespace, &good, expected_generation);
    let mut outcomes = answer.outcomes.into_iter();
    let results = read.into_iter().map(|record| match record {
        // The store answers one outcome for each record it was given.
        Ok(_) => outcomes.next().map_or_else(PutResult::default, write_outcome),
        Err(message) => PutResult { status: PutStatus::Invalid.into(), message },
    });
    PutManyResponse { results: results.collect(), generation: answer.generation }
}

fn read_record(message: NewRecordMessage) -> Result<NewRecord, String> {
    let found = checksum::of_new_record(&message);
    if let Some(sent) = message.checksum.filter(|sent| *sent != found) {
        return Err(format!("`checksum` is {sent:08x}, that of what arrived is {found:08x}"));
    }
    let key = digest("key", &message.key)?;
    let identity = digest("identity", &message.identity)?;
    let element = match message.element_type() {
        ElementType::Float32 => Element::Float32,
        ElementType::Float16 => Element::Float16,
        ElementType::Unspecified => {
            return Err(format!("`element_type` is {}, which is not known here", message.element_type));
        }
    };
    let precision = match message.precision_class() {
        PrecisionClass::Float32 => Precision::Float32,
        PrecisionClass::Bfloat16 => Precision::Bfloat16,
        PrecisionClass::Float16 => Precision::Float16,
        PrecisionClass::Int8 => Precision::Int8,
        PrecisionClass::Unspecified => {
            return Err(format!("`precision_class` is {}, which is not known here", message.precision_class));
        }
    };
    let NewRecordMessage { width, tokens, truncated, vector: bytes, ttl_ms, text, .. } = message;
    let vector = Vector {
        identity: Identity(identity),
        element,
        precision,
        width,
        tokens,
        truncated,
        text: text.into(),
        bytes,
    };
    let ttl = (ttl_ms != 0).then(|| Duration::from_millis(ttl_ms));
    Ok(NewRecord { key: Key(key), vector, ttl })
}

fn digest(field: &str, bytes: &Bytes) -> Result<[u8; 32], String> {
    bytes.as_ref().try_into().map_err(|_| format!("`{field}` has {} bytes, it has 32", bytes.len()))
}

fn write_outcome(outcome: PutOutcome) -> PutResult {
    let error = match outcome {
        PutOutcome::Accepted => return result(PutStatus::Accepted),
        PutOutcome::Kept => return result(PutStatus::Kept),
        PutOutcome::Refused(error) => error,
    };
    let status = match &error {
        PutError::Invalid(_) => PutStatus::Invalid,
        PutError::OverBudget(_) => PutStatus::OverBudget,
        PutError::Stale { .. } => PutStatus::Stale,
        PutError::Disk(trouble) => match trouble.kind {
            TroubleKind::Full => PutStatus::DiskFull,
            TroubleKind::ReadOnly => PutStatus::ReadOnly,
            TroubleKind::Io => PutStatus::IoError,
        },
    };
    PutResult { message: error.to_string(), ..result(status) }
}

fn result(status: PutStatus) -> PutResult {
    PutResult { status: status.into(), message: String::new() }
}

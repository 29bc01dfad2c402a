//! What becomes of any answer of a shard once its checksums are right: a fuzzer would take for ever to guess one.

use prost::Message;
use protocol::{cache::GetManyResponse, inference::PrecisionClass, prompts::Prompts};

use super::{Classes, bytes_of, checksum, read_answer};
use crate::{key::CacheKey, served::Model};

/// Keys that are asked for at most.
const KEYS_MAX: usize = 256;

/// Reads an answer to as many keys as it has bits for, by a proxy that wants the model of its first record.
///
/// # Panics
/// Where a vector comes out of it that no proxy may serve.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(response) = GetManyResponse::decode(bytes) else { return };
    let keys: Vec<_> = (0_u8..=u8::MAX).map(|number| CacheKey([number; 32])).collect();
    let keys = &keys[..(8 * response.hits.len()).min(KEYS_MAX)];
    let (model, classes) =
        (wanted(&response), Classes::new([PrecisionClass::Float32, PrecisionClass::Bfloat16]));
    let Ok(answer) = read_answer(&summed(response, keys), &model, &classes, keys) else { return };
    assert_eq!(answer.found.len(), keys.len());
    for found in answer.found.iter().flatten() {
        let vector = &found.vector;
        assert_eq!(vector.pooled.len(), model.width as usize);
        assert!(vector.pooled.iter().all(|number| number.is_finite()) && classes.take(vector.class));
        assert!(!found.remaining.is_zero());
    }
}

fn wanted(response: &GetManyResponse) -> Model {
    let first = response.records.first();
    let identity = first.and_then(|record| <[u8; 32]>::try_from(&record.identity[..]).ok());
    Model {
        id: String::new(),
        alias: String::new(),
        identity: String::new(),
        identity_bytes: identity.unwrap_or_default(),
        width: first.map_or(1, |record| record.width),
        trained_dimensions: Vec::new(),
        tokens_max: 1,
        precision: PrecisionClass::Float32,
        pooling: String::new(),
        layer_norm_before_cut: false,
        prompts: Prompts::default(),
        items_max: 1,
    }
}

/// The same answer, each record with the checksum that it should have.
fn summed(mut response: GetManyResponse, keys: &[CacheKey]) -> GetManyResponse {
    let hits = response.hits.clone();
    let is_hit = |index: &usize| hits[index / 8] & (1 << (index % 8)) != 0;
    let mut rest = &response.vectors[..];
    for (record, index) in response.records.iter_mut().zip((0..keys.len()).filter(is_hit)) {
        let (numbers, behind) = rest.split_at(bytes_of(record).min(rest.len()));
        rest = behind;
        record.checksum = checksum::of_record(&keys[index].0, record, numbers);
    }
    response
}

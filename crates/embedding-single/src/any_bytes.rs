//! What the proxy makes of any bytes that come from outside: an answer or a refusal, never a panic, and no vector and no text
//! that it may not serve. For fuzzers, and for unit tests, which have fewer bytes to try.

use protocol::embed_json::{TextLimits, UntrainedDimensions, parse};

use crate::lookup::l2::any_answer;

const LIMITS: TextLimits = TextLimits {
    texts_max: 4,
    text_bytes_max: 32,
    edition: "simple",
    untrained_dimensions: UntrainedDimensions::Forbidden,
};

/// An answer of a cache shard, with right checksums.
///
/// # Panics
/// Where a vector comes out of it that no proxy may serve.
pub fn answer(bytes: &[u8]) {
    any_answer::check(bytes);
}

/// The body of `POST /embed`.
///
/// # Panics
/// Where it is taken and breaks a limit, or refused without a word.
pub fn body(bytes: &[u8]) {
    let call = match parse(bytes, &LIMITS) {
        Ok(call) => call,
        Err(error) => return assert!(!error.message.is_empty()),
    };
    assert!((1..=LIMITS.texts_max).contains(&call.texts.len()));
    for text in &call.texts {
        assert!((1..=LIMITS.text_bytes_max).contains(&text.len()) && !text.contains('\0'), "{text:?}");
    }
    assert!(!call.allow_untrained_dimensions && call.cache_ttl.is_none_or(|ttl| !ttl.is_zero()));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{prelude::*, sample::Index};
    use prost::Message;
    use protocol::cache::{GetManyResponse, Record};

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let identity = prop::sample::select(vec![Bytes::from_static(&[7; 32]), Bytes::new()]);
        (0..3_u32, 0..4, 0..6, identity, 0..2_u64).prop_map(
            |(width, element_type, precision_class, identity, ttl_remaining_ms)| Record {
                width,
                element_type,
                precision_class,
                identity,
                ttl_remaining_ms,
                ..Record::default()
            },
        )
    }

    fn right_answer() -> impl Strategy<Value = Vec<u8>> {
        let numbers = prop::collection::vec(any::<u8>(), 0..40);
        (prop::collection::vec(record(), 0..9), numbers).prop_map(|(records, numbers)| {
            let hits = (1_u16 << records.len()) - 1;
            let hits = hits.to_le_bytes()[..records.len().div_ceil(8)].to_vec();
            GetManyResponse { hits: hits.into(), records, vectors: numbers.into(), generation: 1 }
                .encode_to_vec()
        })
    }

    fn right_body() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof!["[a-c]{0,3}", ".{0,40}"];
        let field = prop::sample::select(vec!["texts", "inputs", "model", "dimensions", "cache_ttl_seconds"]);
        let value = prop_oneof![
            prop::collection::vec(text, 0..6).prop_map(|texts| serde_json::json!(texts)),
            ".{0,4}".prop_map(|text| serde_json::json!(text)),
            any::<i64>().prop_map(|number| serde_json::json!(number)),
        ];
        prop::collection::btree_map(field, value, 0..4)
            .prop_map(|fields| serde_json::to_vec(&fields).unwrap())
    }

    /// One byte of it is another, or it ends there; or all is right.
    fn nearly(right: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        (right, any::<Index>(), prop_oneof![Just(0), any::<u8>()], prop::bool::weighted(0.2)).prop_map(
            |(mut bytes, at, flip, is_cut)| {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= flip;
                    bytes.truncate(if is_cut { at } else { bytes.len() });
                }
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn an_answer_that_is_nearly_right_gives_no_vector_that_may_not_be_served(bytes in nearly(right_answer())) {
            answer(&bytes);
        }

        #[test]
        fn a_body_that_is_nearly_right_is_refused_or_within_its_limits(bytes in nearly(right_body())) {
            body(&bytes);
        }
    }
}

//! Bytes that are nearly right.

use proptest::{prelude::*, sample::Index};

use super::{
    SALT, contents,
    directory::{NAMESPACES, RECORD_HEAD_BYTES, directory},
    header, record, sealed_files, segment_header,
};
use crate::store::{
    Element, Identity, Key, Precision,
    class::Class,
    record::{Content, Record, Seat},
};

/// Any number, those at the ends of their type among them.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..10_u64,
        prop::sample::select(vec![1_000_000, 2_000_000, u64::MAX - 1, u64::MAX]),
        any::<u64>()
    ]
}

fn fields_of(namespace: &str, [sequence, generation, expires_ms]: [u64; 3], vector: &[u8]) -> Vec<u8> {
    let content = Content::Vector {
        identity: Identity([7; 32]),
        element: Element::Float16,
        precision: Precision::Int8,
        width: u32::try_from(vector.len() / 2).unwrap(),
        tokens: 1,
        truncated: true,
        text: b"text",
        bytes: vector,
    };
    let (key, created_ms, ttl_ms) = (Key([0; 32]), 5, 10);
    let record = Record { namespace, sequence, generation, key, created_ms, expires_ms, ttl_ms, content };
    record.encode(Seat { salt: SALT, offset: 0 }).split_off(RECORD_HEAD_BYTES)
}

fn right_record() -> impl Strategy<Value = Vec<u8>> {
    let vector = prop::collection::vec(any::<[u8; 2]>(), 1..8);
    (prop::sample::select(NAMESPACES.to_vec()), [number(), number(), number()], vector)
        .prop_map(|(namespace, numbers, vector)| fields_of(namespace, numbers, &vector.concat()))
}

/// What stands in a file of contents behind its salt.
fn right_contents() -> impl Strategy<Value = Vec<u8>> {
    let entry = (0..2_u8, [number(), number()], 0..200_u32, any::<u32>(), 0..2_u16);
    let entries = prop::collection::vec(entry, 0..6);
    (entries, [number(), number(), number()]).prop_map(|(entries, [covered, created_ms, generation])| {
        let mut file = [covered.to_le_bytes(), created_ms.to_le_bytes()].concat();
        file.extend([2, u32::try_from(entries.len()).unwrap()].map(u32::to_le_bytes).concat());
        file.extend([&generation.to_le_bytes()[..], &[0], &1_u64.to_le_bytes(), b"\x01n"].concat());
        for (first, [sequence, expires_ms], offset, what, space) in entries {
            file.extend([first; 16]);
            file.extend([sequence.to_le_bytes(), expires_ms.to_le_bytes()].concat());
            file.extend([offset.to_le_bytes(), (what & 0x03ff_ffff).to_le_bytes()].concat());
            file.extend(space.to_le_bytes());
        }
        file
    })
}

fn right_generations() -> impl Strategy<Value = Vec<u8>> {
    [number(), number(), number()]
        .prop_map(|[counter, base, own]| format!("{counter} {base}\n{own} 6e\n").into_bytes())
}

/// One of those parts that a directory is made of.
fn part(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &u16::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let records = prop::collection::vec(right_record(), 0..6)
        .prop_map(|records| records.iter().flat_map(|record| part(0, record)).collect::<Vec<u8>>());
    let rubbish = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (0..8_u8, 0..4_u8, records)
            .prop_map(|(class, number, body)| part(class * 32 + number * 8 + 1, &body)),
        2 => (0..4_u8, right_contents()).prop_map(|(number, body)| part(number * 8 + 4, &body)),
        1 => right_generations().prop_map(|body| part(6, &body)),
        1 => (any::<u8>(), rubbish).prop_map(|(name, body)| part(name, &body)),
    ]
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
    fn a_record_that_is_nearly_right_is_refused_or_read_the_same_again(bytes in nearly(right_record())) {
        record(&bytes);
    }

    #[test]
    fn contents_that_are_nearly_right_are_refused_or_read_the_same_again(bytes in nearly(right_contents())) {
        contents(&bytes);
    }

    #[test]
    fn a_header_with_right_checksums_is_refused_or_read_the_same_again(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        header(&bytes);
        header(&[&segment_header(SALT, Class::REMOVALS)[..16], &bytes].concat());
    }

    #[test]
    fn text_with_a_right_checksum_is_refused_or_read_the_same_again(bytes in nearly(right_generations())) {
        sealed_files(&bytes);
    }

    #[test]
    fn a_store_over_any_directory_starts_works_and_starts_again(
        files in prop::collection::vec(nearly(file()), 0..8),
    ) {
        directory(&files.concat());
    }
}

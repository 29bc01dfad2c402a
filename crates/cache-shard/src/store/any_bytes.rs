//! What the decoders make of any bytes where no checksum protects them: an answer or a refusal, never a panic, and what is
//! read once is read the same again. For fuzzers, and for unit tests, which have fewer bytes to try.
//!
//! A checksum keeps a fuzzer out: it would take for ever to guess one. So the bytes go to what lies behind it, or get a right
//! one here.

mod directory;

#[cfg(test)]
mod tests;

pub use directory::directory;

use super::{
    contents::Contents,
    generations::Generations,
    memos::Memos,
    record::{RECORD_BYTES_MAX, Reader, Record, Seat},
    sealed,
    segment::{HEADER_BYTES, header as segment_header, read_header},
};

const SALT: u64 = 0x0123_4567_89ab_cdef;
const GENERATIONS_MAGIC: &str = "sutra-cache-generations";
const MEMOS_MAGIC: &str = "sutra-cache-memos";

/// The fields of a record.
pub fn record(bytes: &[u8]) {
    let Ok(record) = Record::decode_checked(Reader(bytes)) else { return };
    let seat = Seat { salt: SALT, offset: 32 };
    if record.encoded_bytes() <= RECORD_BYTES_MAX {
        let encoded = record.encode(seat);
        assert_eq!(Record::decode(&encoded, seat), Ok((record, encoded.len())));
    }
}

/// The contents of a segment.
pub fn contents(bytes: &[u8]) {
    let bytes = [&SALT.to_le_bytes()[..], bytes].concat();
    let Ok((contents, covered)) = Contents::decode_checked(Reader(&bytes), SALT) else { return };
    for entry in contents.entries() {
        assert!(contents.space(entry).is_some(), "an entry of no namespace");
    }
    let encoded = contents.encode(SALT, covered);
    assert_eq!(Contents::decode(&encoded, SALT), Ok((contents, covered)));
}

/// The header of a segment, with right checksums.
pub fn header(bytes: &[u8]) {
    let mut summed = [0; HEADER_BYTES];
    let length = bytes.len().min(HEADER_BYTES);
    summed[..length].copy_from_slice(&bytes[..length]);
    for (fields, checksum) in [(0..12, 12..16), (16..28, 28..32)] {
        let sum = crc32fast::hash(&summed[fields]);
        summed[checksum].copy_from_slice(&sum.to_le_bytes());
    }
    if let Ok((salt, class)) = read_header(&summed) {
        assert_eq!(read_header(&segment_header(salt, class)), Ok((salt, class)));
    }
}

/// The two files of text, with right checksums.
pub fn sealed_files(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    let file = |magic| sealed::seal(magic, 1, body).into_bytes();
    if let Ok(generations) = Generations::decode(&file(GENERATIONS_MAGIC)) {
        assert_eq!(Generations::decode(generations.encode().as_bytes()), Ok(generations));
    }
    if let Ok(memos) = Memos::decode(&file(MEMOS_MAGIC)) {
        assert_eq!(Memos::decode(memos.encode().as_bytes()), Ok(memos));
    }
}

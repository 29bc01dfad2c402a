//! One record as bytes. The decoder takes anything and never panics.
//!
//! ```text
//!    0  mark        u32   the segment's own, so that no client can write bytes that look like a record
//!    4  crc32       u32   of salt (u64), offset (u64), and all bytes from 8 on
//!    8  bytes       u32   length of the whole record
//!   12  kind        u8    1 vector, 2 removal
//!   13  element     u8    1 float32, 2 float16
//!   14  precision   u8    1 float32, 2 bfloat16, 3 float16, 4 int8
//!   15  truncated   u8    0, 1
//!   16  width       u32   numbers in the vector
//!   20  tokens      u32
//!   24  sequence    u64   of the store: what was written later has a higher one
//!   32  generation  u64   of the namespace when this was put
//!   40  created     u64   milliseconds since 1970
//!   48  expires     u64   milliseconds since 1970
//!   56  ttl         u64   milliseconds it was given, and is given again where times to live slide
//!   64  key         32 bytes
//!   96  identity    32 bytes
//!  128  text        u16   bytes of it
//!  130  namespace   u8    bytes of it
//!  131  namespace, UTF-8
//!       how the text begins, UTF-8
//!       vector, little-endian
//! ```
//!
//! All numbers are little-endian. A removal has zeros from 13 to 23, no text and no vector. The checksum takes the offset
//! in, so a record is right only where it was written.

use super::vector::{
    Element, Identity, Key, NAMESPACE_BYTES_MAX, Precision, TEXT_BYTES_MAX, Vector, WIDTH_MAX,
};

const HEAD_BYTES: usize = 131;
/// Bytes of the largest record.
pub(super) const RECORD_BYTES_MAX: usize =
    HEAD_BYTES + NAMESPACE_BYTES_MAX + TEXT_BYTES_MAX + VECTOR_BYTES_MAX;
/// Bytes of the largest vector.
pub(super) const VECTOR_BYTES_MAX: usize = WIDTH_MAX as usize * 4;
/// Sequences and generations are counted one by one: a higher one was not written by this program, and counting on from it
/// would come round to numbers that were used.
pub(super) const COUNTED_MAX: u64 = 1 << 62;

const KIND_VECTOR: u8 = 1;
const KIND_REMOVAL: u8 = 2;

/// Where a record stands: the salt of its segment, and its offset there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) salt: u64,
    pub(super) offset: u64,
}

/// A record in bytes that belong to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) namespace: &'a str,
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) key: Key,
    pub(super) created_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) ttl_ms: u64,
    pub(super) content: Content<'a>,
}

/// What a record says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// Its vector.
    Vector {
        identity: Identity,
        element: Element,
        precision: Precision,
        width: u32,
        tokens: u32,
        truncated: bool,
        text: &'a [u8],
        bytes: &'a [u8],
    },
    /// It was removed.
    Removal,
}

impl<'a> Content<'a> {
    /// That of a record of `vector`.
    pub(super) fn of(vector: &'a Vector) -> Self {
        let Vector { identity, element, precision, width, tokens, truncated, text, bytes } = vector;
        Self::Vector {
            identity: *identity,
            element: *element,
            precision: *precision,
            width: *width,
            tokens: *tokens,
            truncated: *truncated,
            text,
            bytes,
        }
    }
}

/// These bytes are not a record of this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl Seat {
    /// The first four bytes of every record of the segment.
    pub(super) fn mark(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.salt.to_le_bytes();
        [a, b, c, d]
    }

    pub(super) fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(&self.offset.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl<'a> Record<'a> {
    /// Bytes of this record.
    pub(super) fn encoded_bytes(&self) -> usize {
        let rest = match self.content {
            Content::Vector { text, bytes, .. } => text.len() + bytes.len(),
            Content::Removal => 0,
        };
        HEAD_BYTES + self.namespace.len() + rest
    }

    /// The bytes of this record for `seat`. Its namespace, text and vector are within their limits, which the store checks.
    pub(super) fn encode(&self, seat: Seat) -> Vec<u8> {
        let length = self.encoded_bytes();
        let mut out = Vec::with_capacity(length);
        out.extend(seat.mark());
        out.extend([0; 4]);
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        let (identity, text, vector): (Identity, &[u8], &[u8]) = match self.content {
            Content::Vector { identity, element, precision, width, tokens, truncated, text, bytes } => {
                out.extend([KIND_VECTOR, element_code(element), precision_code(precision), truncated.into()]);
                out.extend(width.to_le_bytes());
                out.extend(tokens.to_le_bytes());
                (identity, text, bytes)
            }
            Content::Removal => {
                out.extend([KIND_REMOVAL, 0, 0, 0]);
                out.extend([0; 8]);
                (Identity([0; 32]), &[], &[])
            }
        };
        for number in [self.sequence, self.generation, self.created_ms, self.expires_ms, self.ttl_ms] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.key.0);
        out.extend(identity.0);
        out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.push(u8::try_from(self.namespace.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.namespace.as_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(vector);
        let checksum = seat.checksum(&out[8..]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The record that `bytes` begins with, and its length.
    ///
    /// # Errors
    /// [`Damaged`] for anything but a whole record written at `seat`.
    pub(super) fn decode(bytes: &'a [u8], seat: Seat) -> Result<(Self, usize), Damaged> {
        let mut head = Reader(bytes);
        if head.array()? != seat.mark() {
            return Err(Damaged);
        }
        let checksum = head.number()?;
        let length = head.number()? as usize;
        if !(HEAD_BYTES..=RECORD_BYTES_MAX).contains(&length) {
            return Err(Damaged);
        }
        let whole = bytes.get(..length).ok_or(Damaged)?;
        if seat.checksum(&whole[8..]) != checksum {
            return Err(Damaged);
        }
        Ok((Self::decode_checked(Reader(&whole[12..]))?, length))
    }

    /// The rest, once the checksum is right: what is wrong here was written wrong.
    pub(super) fn decode_checked(mut rest: Reader<'a>) -> Result<Self, Damaged> {
        let [kind, element, precision, truncated] = rest.array()?;
        let (width, tokens) = (rest.number()?, rest.number()?);
        let (sequence, generation) = (rest.counted()?, rest.counted()?);
        let (created_ms, expires_ms, ttl_ms) =
            (rest.long_number()?, rest.long_number()?, rest.long_number()?);
        let (key, identity) = (Key(rest.array()?), Identity(rest.array()?));
        let text_bytes = u16::from_le_bytes(rest.array()?);
        let [namespace_bytes] = rest.array()?;
        let namespace = rest.take(usize::from(namespace_bytes))?;
        let namespace = std::str::from_utf8(namespace).map_err(|_| Damaged)?;
        let text = rest.take(usize::from(text_bytes))?;
        let bytes = rest.0;
        let content = match kind {
            KIND_VECTOR => {
                let element = element_of(element)?;
                let precision = precision_of(precision)?;
                if width == 0 || width > WIDTH_MAX || bytes.len() != width as usize * element.bytes() {
                    return Err(Damaged);
                }
                Content::Vector {
                    identity,
                    element,
                    precision,
                    width,
                    tokens,
                    truncated: truncated == 1,
                    text,
                    bytes,
                }
            }
            KIND_REMOVAL if text.is_empty() && bytes.is_empty() => Content::Removal,
            _ => return Err(Damaged),
        };
        Ok(Self { namespace, sequence, generation, key, created_ms, expires_ms, ttl_ms, content })
    }
}

/// Takes fields off the front of bytes that may be anything.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn number(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn long_number(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    /// A sequence or a generation.
    pub(super) fn counted(&mut self) -> Result<u64, Damaged> {
        self.long_number().and_then(|number| if number <= COUNTED_MAX { Ok(number) } else { Err(Damaged) })
    }
}

fn element_code(element: Element) -> u8 {
    match element {
        Element::Float32 => 1,
        Element::Float16 => 2,
    }
}

fn element_of(code: u8) -> Result<Element, Damaged> {
    [Element::Float32, Element::Float16].into_iter().find(|known| element_code(*known) == code).ok_or(Damaged)
}

pub(super) fn precision_code(precision: Precision) -> u8 {
    match precision {
        Precision::Float32 => 1,
        Precision::Bfloat16 => 2,
        Precision::Float16 => 3,
        Precision::Int8 => 4,
    }
}

pub(super) fn precision_of(code: u8) -> Result<Precision, Damaged> {
    let all = [Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8];
    all.into_iter().find(|known| precision_code(*known) == code).ok_or(Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEAT: Seat = Seat { salt: 0x0123_4567_89ab_cdef, offset: 28 };

    fn record<'a>(namespace: &'a str, bytes: &'a [u8]) -> Record<'a> {
        Record {
            namespace,
            sequence: 4,
            generation: 3,
            key: Key([7; 32]),
            created_ms: 10,
            expires_ms: 20,
            ttl_ms: 10,
            content: Content::Vector {
                identity: Identity([9; 32]),
                element: Element::Float16,
                precision: Precision::Int8,
                width: u32::try_from(bytes.len() / 2).unwrap(),
                tokens: 5,
                truncated: true,
                text: "how it begins …".as_bytes(),
                bytes,
            },
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(namespace in "\\PC{0,16}", numbers in prop::collection::vec(any::<[u8; 2]>(), 1..64)) {
            let vector = numbers.concat();
            let record = record(&namespace, &vector);
            let mut bytes = record.encode(SEAT);
            let length = bytes.len();
            prop_assert_eq!(length, record.encoded_bytes());
            bytes.extend([0xff; 16]);
            prop_assert_eq!(Record::decode(&bytes, SEAT), Ok((record, length)));
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(rest in prop::collection::vec(any::<u8>(), 0..512)) {
            let bytes = [&SEAT.mark()[..], &rest].concat();
            prop_assert_eq!(Record::decode(&bytes, SEAT), Err(Damaged));
            // Also what a right checksum does not protect from.
            let _any = Record::decode_checked(Reader(&rest));
        }
    }

    #[test]
    fn a_record_is_right_only_where_it_was_written() {
        let bytes = record("n", &[1, 2]).encode(SEAT);
        assert!(Record::decode(&bytes, SEAT).is_ok());
        assert_eq!(Record::decode(&bytes, Seat { offset: 29, ..SEAT }), Err(Damaged));
        assert_eq!(Record::decode(&bytes, Seat { salt: SEAT.salt + (1 << 40), ..SEAT }), Err(Damaged));
    }

    #[test]
    fn numbers_that_nobody_has_counted_to_are_damage() {
        let decoded = |sequence, generation| {
            let bytes = Record { sequence, generation, ..record("n", &[1, 2]) }.encode(SEAT);
            Record::decode(&bytes, SEAT).map(|(record, _)| (record.sequence, record.generation))
        };
        assert_eq!(decoded(COUNTED_MAX, COUNTED_MAX), Ok((COUNTED_MAX, COUNTED_MAX)));
        assert_eq!(decoded(COUNTED_MAX + 1, 1), Err(Damaged));
        assert_eq!(decoded(1, u64::MAX), Err(Damaged));
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let bytes = record("n", &[1, 2, 3, 4]).encode(SEAT);
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 0x10;
            assert_eq!(Record::decode(&flipped, SEAT), Err(Damaged), "byte {index}");
            assert_eq!(Record::decode(&bytes[..index], SEAT), Err(Damaged), "length {index}");
        }
    }
}

//! The contents of a segment: where each record begins, and what a start has to know of it. Kept on the disk beside a
//! segment that is full, so that a start reads these few bytes and not the vectors.
//!
//! ```text
//!   0  "SUTRACON"
//!   8  version   u32   of everything from 16 on
//!  12  crc32     u32   of all bytes from 16 on
//!  16  salt      u64   that of the segment
//!  24  covered   u64   bytes of the segment that this tells of; what was written after them has to be scanned
//!  32  created   u64   the latest moment in it, milliseconds since 1970
//!  40  spaces    u32   how many
//!  44  entries   u32   how many
//!  48  spaces:   generation u64, bytes of the namespace u8, namespace
//!      entries:  first 16 bytes of the key, sequence u64, expires u64, offset u32, what u32, space u16
//! ```
//!
//! `what` is the length of the record (24 bits) and its kind (0 a removal, 1 to 4 a vector of that precision class).
//! A file that is damaged, of another segment or not there costs time: the segment is scanned instead. What it says is
//! never believed of a vector: a reader checks the record itself.

use super::{
    record::{Content, Damaged, RECORD_BYTES_MAX, Reader, Record, precision_code, precision_of},
    vector::{NAMESPACE_BYTES_MAX, Precision, Prefix},
};

/// The format this program writes and reads; another one is as good as none.
const CONTENTS_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"SUTRACON";
const HEAD_BYTES: usize = 48;
const ENTRY_BYTES: usize = 42;
/// Beside the namespace itself.
const SPACE_BYTES: usize = 9;
/// What one more record can add to the file, its header among it.
pub(super) const RECORD_CONTENTS_BYTES_MAX: u64 =
    (HEAD_BYTES + SPACE_BYTES + NAMESPACE_BYTES_MAX + ENTRY_BYTES) as u64;
/// A longer file was not written by this program.
pub(super) const CONTENTS_BYTES_CEILING: u64 = 1 << 30;

/// A namespace in one of its generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) namespace: Box<str>,
    pub(super) generation: u64,
}

/// One record of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) prefix: Prefix,
    pub(super) sequence: u64,
    pub(super) expires_ms: u64,
    pub(super) offset: u32,
    pub(super) bytes: u32,
    /// None for a removal.
    pub(super) precision: Option<Precision>,
    space: u16,
}

/// All records of a segment, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    spaces: Vec<Space>,
    spaces_bytes: usize,
    entries: Vec<Entry>,
    latest_created_ms: u64,
}

impl Contents {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where an entry belongs.
    pub(super) fn space(&self, entry: &Entry) -> Option<&Space> {
        self.spaces.get(usize::from(entry.space))
    }

    pub(super) fn latest_created_ms(&self) -> u64 {
        self.latest_created_ms
    }

    /// Bytes of its file.
    pub(super) fn file_bytes(&self) -> u64 {
        (HEAD_BYTES + self.spaces_bytes + self.entries.len() * ENTRY_BYTES) as u64
    }

    /// Takes a record in; false where there are too many namespaces and generations for one segment.
    pub(super) fn add(&mut self, record: &Record<'_>, offset: u32, bytes: u32) -> bool {
        let Some(space) = self.space_of(record) else { return false };
        let precision = match record.content {
            Content::Vector { precision, .. } => Some(precision),
            Content::Removal => None,
        };
        self.latest_created_ms = self.latest_created_ms.max(record.created_ms);
        self.entries.push(Entry {
            prefix: Prefix::of(&record.key),
            sequence: record.sequence,
            expires_ms: record.expires_ms,
            offset,
            bytes,
            precision,
            space,
        });
        true
    }

    /// True if one more record of any namespace finds room.
    pub(super) fn has_room(&self) -> bool {
        self.spaces.len() < usize::from(u16::MAX)
    }

    fn space_of(&mut self, record: &Record<'_>) -> Option<u16> {
        let is_it =
            |space: &Space| space.generation == record.generation && *space.namespace == *record.namespace;
        // Records of one namespace follow each other.
        let known = self.spaces.iter().rposition(is_it);
        let index = known.unwrap_or_else(|| {
            let space = Space { namespace: record.namespace.into(), generation: record.generation };
            self.spaces_bytes += SPACE_BYTES + space.namespace.len();
            self.spaces.push(space);
            self.spaces.len() - 1
        });
        u16::try_from(index).ok()
    }

    /// The file for a segment with this salt, of which this tells the first `covered` bytes.
    pub(super) fn encode(&self, salt: u64, covered: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + 128 + self.entries.len() * ENTRY_BYTES);
        out.extend(MAGIC);
        out.extend(CONTENTS_VERSION.to_le_bytes());
        out.extend([0; 4]);
        for number in [salt, covered, self.latest_created_ms] {
            out.extend(number.to_le_bytes());
        }
        for count in [self.spaces.len(), self.entries.len()] {
            out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        for space in &self.spaces {
            out.extend(space.generation.to_le_bytes());
            out.push(u8::try_from(space.namespace.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(space.namespace.as_bytes());
        }
        self.entries.iter().for_each(|entry| entry.encode(&mut out));
        let checksum = crc32fast::hash(&out[16..]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// What a file says of a segment with this salt, and how many of its bytes that covers.
    ///
    /// # Errors
    /// [`Damaged`] for any other file.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Result<(Self, u64), Damaged> {
        let mut head = Reader(bytes);
        if head.array()? != MAGIC || head.number()? != CONTENTS_VERSION {
            return Err(Damaged);
        }
        let checksum = head.number()?;
        if crc32fast::hash(head.0) != checksum {
            return Err(Damaged);
        }
        Self::decode_checked(head, salt)
    }

    /// The rest, once the checksum is right.
    pub(super) fn decode_checked(mut rest: Reader<'_>, salt: u64) -> Result<(Self, u64), Damaged> {
        if rest.long_number()? != salt {
            return Err(Damaged);
        }
        let (covered, latest_created_ms) = (rest.long_number()?, rest.long_number()?);
        let (spaces, entries) = (rest.number()?, rest.number()? as usize);
        let spaces: Vec<_> = (0..spaces).map(|_| space(&mut rest)).collect::<Result<_, _>>()?;
        // Each takes so many bytes: no count makes us ask for more memory than the file has.
        if Some(rest.0.len()) != entries.checked_mul(ENTRY_BYTES) {
            return Err(Damaged);
        }
        let entries = rest.0.as_chunks::<ENTRY_BYTES>().0.iter();
        let entries: Vec<_> =
            entries.map(|bytes| Entry::decode(bytes, spaces.len())).collect::<Result<_, _>>()?;
        let spaces_bytes = spaces.iter().map(|space| SPACE_BYTES + space.namespace.len()).sum();
        Ok((Self { spaces, spaces_bytes, entries, latest_created_ms }, covered))
    }
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        let kind = self.precision.map_or(0, |precision| u32::from(precision_code(precision)));
        out.extend(self.prefix.0);
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.expires_ms.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend((self.bytes | (kind << 24)).to_le_bytes());
        out.extend(self.space.to_le_bytes());
    }

    fn decode(bytes: &[u8], spaces: usize) -> Result<Self, Damaged> {
        let mut rest = Reader(bytes);
        let prefix = Prefix(rest.array()?);
        let (sequence, expires_ms) = (rest.counted()?, rest.long_number()?);
        let (offset, what) = (rest.number()?, rest.number()?);
        let space = u16::from_le_bytes(rest.array()?);
        let precision = match what.to_le_bytes()[3] {
            0 => None,
            code => Some(precision_of(code)?),
        };
        let bytes = what & 0x00ff_ffff;
        // The index has no room for the length of a longer one.
        let is_known = usize::from(space) < spaces && bytes as usize <= RECORD_BYTES_MAX;
        is_known
            .then_some(Self { prefix, sequence, expires_ms, offset, bytes, precision, space })
            .ok_or(Damaged)
    }
}

fn space(rest: &mut Reader<'_>) -> Result<Space, Damaged> {
    let generation = rest.counted()?;
    let [length] = rest.array()?;
    let namespace = std::str::from_utf8(rest.take(usize::from(length))?).map_err(|_| Damaged)?;
    Ok(Space { namespace: namespace.into(), generation })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::vector::Key;

    fn contents(keys: &[[u8; 2]]) -> Contents {
        let mut contents = Contents::default();
        for (index, [key, namespace]) in keys.iter().enumerate() {
            let record = Record {
                namespace: &"n".repeat(usize::from(*namespace % 4)),
                sequence: index as u64,
                generation: u64::from(*namespace),
                key: Key([*key; 32]),
                created_ms: u64::from(*key),
                expires_ms: 1 << 40,
                ttl_ms: 1,
                content: Content::Removal,
            };
            assert!(contents.add(&record, 7, 131));
        }
        contents
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_only_for_its_segment(keys in prop::collection::vec(any::<[u8; 2]>(), 0..40)) {
            let contents = contents(&keys);
            let file = contents.encode(42, 99);
            prop_assert_eq!(file.len() as u64, contents.file_bytes());
            prop_assert_eq!(Contents::decode(&file, 42), Ok((contents, 99)));
            prop_assert_eq!(Contents::decode(&file, 43), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(Contents::decode(&bytes, 42), Err(Damaged));
            // Also what a right checksum does not protect from.
            let _any = Contents::decode_checked(Reader(&bytes), 42);
            let salted = [&42_u64.to_le_bytes()[..], &bytes].concat();
            let _any = Contents::decode_checked(Reader(&salted), 42);
        }
    }

    #[test]
    fn what_no_record_can_be_is_damage() {
        let record_bytes_max = u32::try_from(RECORD_BYTES_MAX).unwrap();
        let decoded = |change: fn(&mut Contents), bytes| {
            let mut contents = contents(&[[1, 0]]);
            contents.entries[0].bytes = bytes;
            change(&mut contents);
            Contents::decode(&contents.encode(42, 99), 42).is_ok()
        };
        assert!(decoded(|_| {}, record_bytes_max));
        assert!(!decoded(|_| {}, record_bytes_max + 1));
        assert!(!decoded(|contents| contents.entries[0].sequence = u64::MAX, 131));
        assert!(!decoded(|contents| contents.spaces[0].generation = u64::MAX, 131));
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let file = contents(&[[1, 0], [2, 3]]).encode(42, 99);
        for index in 0..file.len() {
            let mut flipped = file.clone();
            flipped[index] ^= 0x10;
            assert_eq!(Contents::decode(&flipped, 42), Err(Damaged), "byte {index}");
            assert_eq!(Contents::decode(&file[..index], 42), Err(Damaged), "length {index}");
        }
    }
}

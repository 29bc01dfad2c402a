//! One append-only file of records of one class.
//!
//! ```text
//!   0  "SUTRASEG"
//!   8  version  u32   of everything from 16 on
//!  12  crc32    u32   of bytes 0..12; the first 16 bytes mean the same in every version
//!  16  salt     u64   goes into the checksum of every record
//!  24  class    u8    0 removals, 1 to 7 vectors by what they had to live, and three zeros
//!  28  crc32    u32   of bytes 16..28
//!  32  records, one after another
//! ```

use std::{io, sync::Arc};

use super::{
    class::Class,
    contents::Contents,
    disk::{Disk, read_exact_at},
    record::{Record, Seat},
    sync::atomic::{AtomicU64, Ordering},
    vfs::{Access, VfsFile},
};

/// The format this program writes and reads. Version 1 had no classes; a store of it is forgotten.
pub(super) const FORMAT_VERSION: u32 = 2;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"SUTRASEG";

/// What a name of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Segment(u32),
    Contents(u32),
    Damaged(u32),
}

pub(super) fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

pub(super) fn contents_name(number: u32) -> String {
    format!("{number:010}.contents")
}

pub(super) fn damaged_name(number: u32) -> String {
    format!("{number:010}.seg.damaged")
}

/// Reads a file's name; `None` for files that are none of ours.
pub(super) fn read_name(name: &str) -> Option<Named> {
    let number = name.get(..10)?.parse().ok()?;
    let known = [
        (file_name(number), Named::Segment(number)),
        (contents_name(number), Named::Contents(number)),
        (damaged_name(number), Named::Damaged(number)),
    ];
    known.into_iter().find_map(|(known, named)| (known == name).then_some(named))
}

/// A number that several threads read and one writes.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A segment as readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) class: Class,
    pub(super) salt: u64,
    file: Arc<dyn VfsFile>,
    /// Length of the file.
    bytes: Number,
    records: Number,
    /// Bytes of the file of its contents: those it has, and those it will have.
    contents_bytes: (Number, Number),
    /// When its last record expires, milliseconds since 1970.
    expires_ms: AtomicU64,
    /// Of its first record, and its last.
    sequences: (AtomicU64, AtomicU64),
    /// Records that the index leads to, and their bytes.
    live: (AtomicU64, AtomicU64),
}

/// A segment that grows.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) contents: Contents,
    /// None until the first record: what is only read is not open for writing.
    file: Option<Arc<dyn VfsFile>>,
}

/// Why a header is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    OlderVersion(u32),
    NewerVersion(u32),
}

impl Segment {
    pub(super) fn new(number: u32, (salt, class): (u64, Class), file: Arc<dyn VfsFile>, bytes: u64) -> Self {
        let segment = Self {
            number,
            class,
            salt,
            file,
            bytes: Number::default(),
            records: Number::default(),
            contents_bytes: Default::default(),
            expires_ms: AtomicU64::new(0),
            sequences: (AtomicU64::new(u64::MAX), AtomicU64::new(0)),
            live: (AtomicU64::new(0), AtomicU64::new(0)),
        };
        segment.bytes.set(bytes);
        segment
    }

    pub(super) fn seat(&self, offset: u64) -> Seat {
        Seat { salt: self.salt, offset }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(super) fn records(&self) -> u64 {
        self.records.get()
    }

    /// What it takes on the disk, with the file of its contents, which is made when it is full.
    pub(super) fn footprint_bytes(&self) -> u64 {
        self.bytes() + self.contents_bytes.0.get().max(self.contents_bytes.1.get())
    }

    /// What it takes on the disk now.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.bytes() + self.contents_bytes.0.get()
    }

    /// The file of its contents has so many bytes.
    pub(super) fn has_contents_of(&self, bytes: u64) {
        self.contents_bytes.0.set(bytes);
    }

    /// It would have so many now.
    pub(super) fn wants_contents_of(&self, bytes: u64) {
        self.contents_bytes.1.set(bytes);
    }

    pub(super) fn expires_ms(&self) -> u64 {
        self.expires_ms.load(Ordering::Relaxed)
    }

    /// Sequences of the first and the last record; the first is the largest number there is where it has none.
    pub(super) fn sequences(&self) -> (u64, u64) {
        (self.sequences.0.load(Ordering::Relaxed), self.sequences.1.load(Ordering::Relaxed))
    }

    /// It has one more record than before.
    pub(super) fn has_record(&self, sequence: u64, expires_ms: u64) {
        self.records.set(self.records() + 1);
        self.expires_ms.fetch_max(expires_ms, Ordering::Relaxed);
        self.sequences.0.fetch_min(sequence, Ordering::Relaxed);
        self.sequences.1.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Records that the index leads to, and their bytes.
    pub(super) fn live(&self) -> (u64, u64) {
        (self.live.0.load(Ordering::Relaxed), self.live.1.load(Ordering::Relaxed))
    }

    pub(super) fn gains(&self, bytes: u32) {
        self.live.0.fetch_add(1, Ordering::Relaxed);
        self.live.1.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    pub(super) fn loses(&self, bytes: u32) {
        self.live.0.fetch_sub(1, Ordering::Relaxed);
        self.live.1.fetch_sub(bytes.into(), Ordering::Relaxed);
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        read_exact_at(&*self.file, bytes, offset)
    }

    /// The same with what is in memory already; false where that would wait for a disk.
    pub(super) fn read_into_now(&self, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let read = self.file.read_now(bytes, offset)?;
        // A short answer is rare, and what it means the other way of reading finds out.
        Ok(read == Some(bytes.len()))
    }

    /// Reads what one call gives; 0 at the end of the file.
    pub(super) fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Active {
    /// One from before the start.
    pub(super) fn resume(segment: Arc<Segment>, contents: Contents) -> Self {
        Self { segment, contents, file: None }
    }

    /// Makes a new one on the disk. What is left of one that could not be made is removed.
    pub(super) fn create(disk: &Disk, number: u32, class: Class) -> io::Result<Self> {
        let name = file_name(number);
        let file = disk.create(&name)?;
        let salt = rand::random();
        let opened = file.write_at(&header(salt, class), 0).and_then(|()| disk.open(&name, Access::Read));
        let reader = opened.inspect_err(|_| {
            if let Err(error) = disk.remove(&name) {
                tracing::debug!(%error, name, "a segment that was not made stays behind");
            }
        })?;
        let segment = Arc::new(Segment::new(number, (salt, class), reader, HEADER_BYTES as u64));
        Ok(Self { segment, contents: Contents::default(), file: Some(file) })
    }

    /// Writes `record`, whose bytes are `bytes`, at its end. What a failed write leaves behind is cut off.
    ///
    /// # Errors
    /// [`Unwritten`], which says whether it may be tried again.
    pub(super) fn append(&mut self, disk: &Disk, record: &Record<'_>, bytes: &[u8]) -> Result<(), Unwritten> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let opened = disk.open(&file_name(self.segment.number), Access::Write);
                opened.map_err(|error| Unwritten { error, is_cut: false })?
            }
        };
        let end = self.segment.bytes();
        file.write_at(bytes, end).map_err(|error| Unwritten { error, is_cut: file.cut(end).is_ok() })?;
        self.segment.bytes.set(end + bytes.len() as u64);
        self.segment.has_record(record.sequence, record.expires_ms);
        // Both fit: the segment is shorter than its limit.
        if let (Ok(offset), Ok(length)) = (u32::try_from(end), u32::try_from(bytes.len())) {
            self.contents.add(record, offset, length);
            self.segment.wants_contents_of(self.contents.file_bytes());
        }
        self.file = Some(file);
        Ok(())
    }
}

/// A record was not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) error: io::Error,
    /// The segment ends as it did before.
    pub(super) is_cut: bool,
}

pub(super) fn header(salt: u64, class: Class) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out.extend(salt.to_le_bytes());
    out.extend([class.code(), 0, 0, 0]);
    out.extend(crc32fast::hash(&out[16..]).to_le_bytes());
    out
}

/// The salt and the class in the header that `bytes` begins with.
pub(super) fn read_header(bytes: &[u8]) -> Result<(u64, Class), BadHeader> {
    let (fixed, rest) = bytes.split_at_checked(16).ok_or(BadHeader::Damaged)?;
    let number = |bytes: &[u8]| bytes.first_chunk().map(|number| u32::from_le_bytes(*number));
    if fixed[..8] != MAGIC || number(&fixed[12..]) != Some(crc32fast::hash(&fixed[..12])) {
        return Err(BadHeader::Damaged);
    }
    match number(&fixed[8..]) {
        Some(FORMAT_VERSION) => {}
        Some(newer) if newer > FORMAT_VERSION => return Err(BadHeader::NewerVersion(newer)),
        Some(older) => return Err(BadHeader::OlderVersion(older)),
        None => return Err(BadHeader::Damaged),
    }
    let (fields, checksum) = rest.split_first_chunk::<12>().ok_or(BadHeader::Damaged)?;
    if number(checksum) != Some(crc32fast::hash(fields)) {
        return Err(BadHeader::Damaged);
    }
    let salt = fields.first_chunk().map(|salt| u64::from_le_bytes(*salt));
    salt.zip(Class::of_code(fields[8])).ok_or(BadHeader::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Class = Class::REMOVALS;

    #[test]
    fn header_is_read_and_every_flip_in_it_noticed() {
        let bytes = header(42, CLASS);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(read_header(&bytes), Ok((42, CLASS)));
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert_eq!(read_header(&flipped), Err(BadHeader::Damaged), "byte {index}");
            assert_eq!(read_header(&bytes[..index]), Err(BadHeader::Damaged), "length {index}");
        }
    }

    #[test]
    fn other_versions_are_named() {
        for (version, expected) in [(1, BadHeader::OlderVersion(1)), (7, BadHeader::NewerVersion(7))] {
            let mut bytes = header(42, CLASS);
            bytes[8..12].copy_from_slice(&u32::to_le_bytes(version));
            let checksum = crc32fast::hash(&bytes[..12]);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(read_header(&bytes), Err(expected));
        }
    }

    #[test]
    fn only_our_own_names_are_read() {
        assert_eq!(read_name("0000000007.seg"), Some(Named::Segment(7)));
        assert_eq!(read_name("0000000007.contents"), Some(Named::Contents(7)));
        assert_eq!(read_name("0000000007.seg.damaged"), Some(Named::Damaged(7)));
        for name in ["7.seg", "+000000007.seg", "0000000007.segment", "LOCK", "ééééééé", "9999999999.seg"]
        {
            assert_eq!(read_name(name), None, "{name}");
        }
    }
}

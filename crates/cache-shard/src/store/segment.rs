//! One append-only file of records.
//!
//! ```text
//!   0  "SUTRASEG"
//!   8  version  u32   of everything from 16 on
//!  12  crc32    u32   of bytes 0..12; the first 16 bytes mean the same in every version
//!  16  salt     u64   goes into the checksum of every record
//!  24  crc32    u32   of bytes 16..24
//!  28  records, one after another
//! ```

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{disk::Disk, record::Seat};

/// The format this program writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"SUTRASEG";

/// What a name of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Segment(u32),
    Damaged(u32),
}

pub(super) fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

pub(super) fn damaged_name(number: u32) -> String {
    format!("{number:010}.seg.damaged")
}

/// Reads a file's name; `None` for files that are none of ours.
pub(super) fn read_name(name: &str) -> Option<Named> {
    let number = name.get(..10)?.parse().ok()?;
    let known = [(file_name(number), Named::Segment(number)), (damaged_name(number), Named::Damaged(number))];
    known.into_iter().find_map(|(known, named)| (known == name).then_some(named))
}

/// A segment as readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) salt: u64,
    file: File,
    /// Length of the file.
    bytes: AtomicU64,
    /// When its last record expires, milliseconds since 1970.
    expires_ms: AtomicU64,
}

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) records: usize,
    /// None until the first record: what is only read is not open for writing.
    file: Option<File>,
}

/// Why a header is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    NewerVersion(u32),
}

impl Segment {
    pub(super) fn new(number: u32, salt: u64, file: File, bytes: u64) -> Self {
        Self { number, salt, file, bytes: AtomicU64::new(bytes), expires_ms: AtomicU64::new(0) }
    }

    pub(super) fn seat(&self, offset: u64) -> Seat {
        Seat { salt: self.salt, offset }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn expires_ms(&self) -> u64 {
        self.expires_ms.load(Ordering::Relaxed)
    }

    pub(super) fn expires_not_before(&self, moment_ms: u64) {
        self.expires_ms.fetch_max(moment_ms, Ordering::Relaxed);
    }

    pub(super) fn read(&self, disk: &Disk, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        disk.read_exact_at(&self.file, &mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads what one call gives; 0 at the end of the file.
    pub(super) fn read_some(&self, disk: &Disk, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        disk.read_at(&self.file, bytes, offset)
    }

    pub(super) fn sync(&self, disk: &Disk) -> io::Result<()> {
        disk.sync(&self.file)
    }
}

impl Active {
    /// One from before the start.
    pub(super) fn resume(segment: Arc<Segment>, records: usize) -> Self {
        Self { segment, records, file: None }
    }

    /// Makes a new one on the disk. What is left of one that could not be made is removed.
    pub(super) fn create(disk: &Disk, number: u32) -> io::Result<Self> {
        let name = file_name(number);
        let file = disk.create(&name)?;
        let salt = rand::random();
        let opened = disk.write_at(&file, &header(salt), 0).and_then(|()| File::open(disk.path(&name)));
        let reader = opened.inspect_err(|_| {
            if let Err(error) = std::fs::remove_file(disk.path(&name)) {
                tracing::debug!(%error, name, "a segment that was not made stays behind");
            }
        })?;
        let segment = Arc::new(Segment::new(number, salt, reader, HEADER_BYTES as u64));
        Ok(Self { segment, records: 0, file: Some(file) })
    }

    /// Writes `bytes` at its end. What a failed write leaves behind is cut off.
    ///
    /// # Errors
    /// [`Unwritten`], which says whether it may be tried again.
    pub(super) fn append(&mut self, disk: &Disk, bytes: &[u8]) -> Result<(), Unwritten> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let opened = disk.open_to_write(&file_name(self.segment.number));
                opened.map_err(|error| Unwritten { error, is_cut: false })?
            }
        };
        let end = self.segment.bytes();
        disk.write_at(&file, bytes, end)
            .map_err(|error| Unwritten { error, is_cut: file.set_len(end).is_ok() })?;
        self.segment.bytes.store(end + bytes.len() as u64, Ordering::Relaxed);
        self.records += 1;
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

fn header(salt: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out.extend(salt.to_le_bytes());
    out.extend(crc32fast::hash(&salt.to_le_bytes()).to_le_bytes());
    out
}

/// The salt in the header that `bytes` begins with.
pub(super) fn read_header(bytes: &[u8]) -> Result<u64, BadHeader> {
    let (fixed, rest) = bytes.split_at_checked(16).ok_or(BadHeader::Damaged)?;
    let number = |bytes: &[u8]| bytes.first_chunk().map(|number| u32::from_le_bytes(*number));
    if fixed[..8] != MAGIC || number(&fixed[12..]) != Some(crc32fast::hash(&fixed[..12])) {
        return Err(BadHeader::Damaged);
    }
    match number(&fixed[8..]) {
        Some(FORMAT_VERSION) => {}
        Some(newer) if newer > FORMAT_VERSION => return Err(BadHeader::NewerVersion(newer)),
        Some(_) | None => return Err(BadHeader::Damaged),
    }
    let (salt, checksum) = rest.split_first_chunk().ok_or(BadHeader::Damaged)?;
    match number(checksum) == Some(crc32fast::hash(salt)) {
        true => Ok(u64::from_le_bytes(*salt)),
        false => Err(BadHeader::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_and_every_flip_in_it_noticed() {
        let bytes = header(42);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(read_header(&bytes), Ok(42));
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert_eq!(read_header(&flipped), Err(BadHeader::Damaged), "byte {index}");
            assert_eq!(read_header(&bytes[..index]), Err(BadHeader::Damaged), "length {index}");
        }
    }

    #[test]
    fn newer_version_is_named() {
        let mut bytes = header(42);
        bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read_header(&bytes), Err(BadHeader::NewerVersion(7)));
    }

    #[test]
    fn only_our_own_names_are_read() {
        assert_eq!(read_name("0000000007.seg"), Some(Named::Segment(7)));
        assert_eq!(read_name("0000000007.seg.damaged"), Some(Named::Damaged(7)));
        for name in ["7.seg", "+000000007.seg", "0000000007.segment", "LOCK", "ééééééé", "9999999999.seg"]
        {
            assert_eq!(read_name(name), None, "{name}");
        }
    }
}

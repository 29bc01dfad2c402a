//! From a directory, whatever is in it, to an index: reads every segment from its begin to its end.
//!
//! ```text
//!  header wrong      ─▶ the segment is set aside as `.damaged`
//!  record wrong      ─▶ looked over, on to the next right one; at the end of a file that is a torn tail
//!  generations wrong ─▶ set aside, everything counts as cleared
//!  newer version     ─▶ the only thing that refuses the start
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    OpenError,
    clock::Timeline,
    disk::Disk,
    generations::{self, Generations},
    index::{Index, Location, STRIPES},
    memos::{self, Memos},
    record::{Content, Record},
    scan::scan,
    sealed::BadFile,
    segment::{
        Active, BadHeader, HEADER_BYTES, Named, Segment, damaged_name, file_name, read_header, read_name,
    },
};

/// A longer file was not written by this program.
const SEGMENT_BYTES_CEILING: u64 = 1 << 30;
/// A longer file of generations was not written by this program.
const GENERATIONS_BYTES_CEILING: u64 = 1 << 20;
/// A longer file of memos was not written by this program.
const MEMOS_BYTES_CEILING: u64 = 4 << 20;
/// Between two words about how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Damaged segments that are kept for somebody to look at.
const DAMAGED_KEPT_MAX: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) generations: Generations,
    /// The generations are not on the disk as they are here.
    pub(super) generations_unsaved: bool,
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    pub(super) next_number: u32,
    /// The last segment, if more may be written to it.
    pub(super) active: Option<Active>,
    pub(super) damaged_segments: usize,
    /// Places where something was not a record, torn tails among them.
    pub(super) gaps: usize,
}

/// Reads the directory.
pub(super) fn recover(disk: &Disk, timeline: &Timeline) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered::default();
    let numbers = list(disk).map_err(|error| OpenError::directory(disk, error))?;
    let lost = load_generations(disk, &mut recovered, !numbers.is_empty())?;
    let mut progress = Progress::new(PROGRESS_INTERVAL);
    for (done, number) in numbers.iter().enumerate() {
        read_segment(disk, timeline, *number, &mut recovered)?;
        if progress.is_due() {
            tracing::info!(
                segments = done + 1,
                of = numbers.len(),
                entries = recovered.index.len(),
                "recovering the store"
            );
        }
    }
    if lost {
        recovered.generations.advance_all();
        recovered.index.clear();
    }
    let now_ms = timeline.now_ms();
    for stripe in 0..STRIPES {
        recovered.index.retain_in(stripe, |location| location.expires_ms > now_ms);
    }
    Ok(recovered)
}

fn list(disk: &Disk) -> io::Result<Vec<u32>> {
    let (mut segments, mut damaged) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(disk.directory())? {
        match entry?.file_name().to_str().and_then(read_name) {
            Some(Named::Segment(number)) => segments.push(number),
            Some(Named::Damaged(number)) => damaged.push(number),
            None => {}
        }
    }
    segments.sort_unstable();
    damaged.sort_unstable();
    let surplus = damaged.len().saturating_sub(DAMAGED_KEPT_MAX);
    for number in &damaged[..surplus] {
        if let Err(error) = disk.remove(&damaged_name(*number)) {
            tracing::warn!(%error, number, "a damaged segment cannot be removed");
        }
    }
    Ok(segments)
}

/// True if they are lost.
fn load_generations(disk: &Disk, recovered: &mut Recovered, had_segments: bool) -> Result<bool, OpenError> {
    let path = disk.path(generations::FILE_NAME);
    let read = read_sealed(disk, generations::FILE_NAME, GENERATIONS_BYTES_CEILING);
    let reason = match read.map(|bytes| Generations::decode(&bytes)) {
        Ok(Ok(generations)) => {
            recovered.generations = generations;
            return Ok(false);
        }
        Ok(Err(BadFile::NewerVersion(version))) => return Err(OpenError::NewerVersion { path, version }),
        Ok(Err(BadFile::Damaged)) => "damaged".to_owned(),
        Err(None) if !had_segments => {
            recovered.generations_unsaved = true;
            return Ok(false);
        }
        Err(None) => "not there".to_owned(),
        Err(Some(error)) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), reason, "generations are lost: all records count as cleared");
    recovered.generations_unsaved = true;
    set_file_aside(disk, generations::FILE_NAME);
    Ok(true)
}

/// The memos, or none where they cannot be read: who kept them knows what to do without.
pub(super) fn load_memos(disk: &Disk) -> Result<Memos, OpenError> {
    let path = disk.path(memos::FILE_NAME);
    let read = read_sealed(disk, memos::FILE_NAME, MEMOS_BYTES_CEILING);
    let reason = match read.map(|bytes| Memos::decode(&bytes)) {
        Ok(Ok(memos)) => return Ok(memos),
        Ok(Err(BadFile::NewerVersion(version))) => return Err(OpenError::NewerVersion { path, version }),
        Err(None) => return Ok(Memos::default()),
        Ok(Err(BadFile::Damaged)) => "damaged".to_owned(),
        Err(Some(error)) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), reason, "memos are lost");
    set_file_aside(disk, memos::FILE_NAME);
    Ok(Memos::default())
}

/// The bytes of a file that is replaced whole; the error is none where it is not there.
fn read_sealed(disk: &Disk, name: &str, bytes_ceiling: u64) -> Result<Vec<u8>, Option<io::Error>> {
    let path = disk.path(name);
    match is_plain_file(&path) {
        Ok(bytes) if bytes <= bytes_ceiling => fs::read(&path).map_err(Some),
        Ok(bytes) => Err(Some(too_long(bytes, bytes_ceiling))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(error)),
    }
}

fn set_file_aside(disk: &Disk, name: &str) {
    if let Err(error) = disk.rename(name, &format!("{name}.damaged")) {
        tracing::debug!(%error, name, "a file was not set aside");
    }
}

fn read_segment(
    disk: &Disk,
    timeline: &Timeline,
    number: u32,
    recovered: &mut Recovered,
) -> Result<(), OpenError> {
    let path = disk.path(&file_name(number));
    let (file, bytes, header) = match open_segment(disk, &path) {
        Ok(opened) => opened,
        Err(error) => {
            set_aside(disk, number, &error.to_string(), recovered);
            return Ok(());
        }
    };
    let salt = match read_header(&header) {
        Ok(salt) => salt,
        Err(BadHeader::NewerVersion(version)) => return Err(OpenError::NewerVersion { path, version }),
        Err(BadHeader::Damaged) => {
            set_aside(disk, number, "its header is damaged", recovered);
            return Ok(());
        }
    };
    let segment = Arc::new(Segment::new(number, salt, file, bytes));
    let scanned = scan(disk, &segment, |record, location| {
        timeline.has_been(record.created_ms);
        take_in(recovered, record, location);
    });
    let gaps = scanned.gaps;
    if gaps > 0 {
        tracing::warn!(path = %path.display(), gaps, "parts of a segment are no records: torn or damaged");
    }
    recovered.gaps += gaps;
    recovered.active = (gaps == 0).then(|| Active::resume(segment.clone(), scanned.records));
    recovered.segments.insert(number, segment);
    recovered.next_number = number.saturating_add(1);
    Ok(())
}

fn set_aside(disk: &Disk, number: u32, reason: &str, recovered: &mut Recovered) {
    recovered.damaged_segments += 1;
    recovered.active = None;
    tracing::warn!(number, reason, "a segment is set aside");
    if let Err(error) = disk.rename(&file_name(number), &damaged_name(number)) {
        tracing::warn!(%error, number, "a damaged segment stays where it is");
    }
}

/// The file, its length and its header.
fn open_segment(disk: &Disk, path: &Path) -> io::Result<(File, u64, [u8; HEADER_BYTES])> {
    let bytes = is_plain_file(path)?;
    if bytes > SEGMENT_BYTES_CEILING {
        return Err(too_long(bytes, SEGMENT_BYTES_CEILING));
    }
    let file = File::open(path)?;
    let mut header = [0; HEADER_BYTES];
    disk.read_exact_at(&file, &mut header, 0)?;
    Ok((file, bytes, header))
}

fn too_long(bytes: u64, limit: u64) -> io::Error {
    io::Error::other(format!("{bytes} bytes, the limit is {limit}"))
}

/// Its length. Anything but a file, a pipe say, would hold up the start when it is opened.
fn is_plain_file(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(io::Error::other("not a plain file")) }
}

/// When to say how far it is.
#[derive(Debug)]
struct Progress {
    interval: Duration,
    said: Instant,
}

impl Progress {
    fn new(interval: Duration) -> Self {
        Self { interval, said: Instant::now() }
    }

    /// True once each interval.
    fn is_due(&mut self) -> bool {
        let is_due = self.said.elapsed() >= self.interval;
        if is_due {
            self.said = Instant::now();
        }
        is_due
    }
}

/// Later records stand for what was decided when they were written: each simply follows the one before it.
fn take_in(recovered: &mut Recovered, record: &Record<'_>, (segment, offset, bytes): (u32, u32, u32)) {
    let Record { namespace, generation, key, expires_ms, .. } = *record;
    if recovered.generations.has_been(namespace, generation) {
        recovered.generations_unsaved = true;
        drop(recovered.index.take_namespace(namespace));
    }
    if generation != recovered.generations.of(namespace) {
        return;
    }
    match record.content {
        Content::Removal => {
            recovered.index.remove(namespace, &key);
        }
        Content::Vector { precision, .. } => {
            let location = Location { segment, offset, bytes, precision, expires_ms };
            recovered.index.insert(namespace, &key, location);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_once_an_interval() {
        assert!(!Progress::new(Duration::from_secs(3600)).is_due());
        assert!(Progress::new(Duration::ZERO).is_due());
    }
}

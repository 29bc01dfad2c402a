//! What lies in the directory: ours is opened or set aside, the rest is left alone.

use std::{io, sync::Arc};

use super::Recovered;
use crate::store::{
    OpenError,
    disk::{Disk, read_exact_at, too_long},
    generations::{self, Generations},
    memos::{self, Memos},
    sealed::BadFile,
    segment::{
        BadHeader, HEADER_BYTES, Named, Segment, contents_name, damaged_name, file_name, read_header,
        read_name,
    },
    vfs::{Access, VfsFile},
};

/// A longer file was not written by this program.
const SEGMENT_BYTES_CEILING: u64 = 1 << 30;
/// A longer file of generations was not written by this program.
const GENERATIONS_BYTES_CEILING: u64 = 1 << 20;
/// A longer file of memos was not written by this program.
const MEMOS_BYTES_CEILING: u64 = 4 << 20;
/// Damaged segments that are kept for somebody to look at.
const DAMAGED_KEPT_MAX: usize = 8;

/// The numbers of all segments, in their order. What is left of others is removed.
pub(super) fn list(disk: &Disk) -> io::Result<Vec<u32>> {
    let (mut segments, mut contents, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    for name in disk.vfs().list()? {
        match read_name(&name) {
            Some(Named::Segment(number)) => segments.push(number),
            Some(Named::Contents(number)) => contents.push(number),
            Some(Named::Damaged(number)) => damaged.push(number),
            None => {}
        }
    }
    segments.sort_unstable();
    damaged.sort_unstable();
    let surplus = damaged.len().saturating_sub(DAMAGED_KEPT_MAX);
    let strays = contents.iter().filter(|number| segments.binary_search(number).is_err());
    let names = damaged[..surplus].iter().map(|number| damaged_name(*number));
    for name in names.chain(strays.map(|number| contents_name(*number))) {
        if let Err(error) = disk.remove(&name) {
            tracing::warn!(%error, name, "a file of no more use cannot be removed");
        }
    }
    Ok(segments)
}

/// True if they are lost.
pub(super) fn load_generations(
    disk: &Disk,
    recovered: &mut Recovered,
    had_segments: bool,
) -> Result<bool, OpenError> {
    let path = disk.path(generations::FILE_NAME);
    let read = disk.read(generations::FILE_NAME, GENERATIONS_BYTES_CEILING);
    let reason = match read.map(|file| file.map(|bytes| Generations::decode(&bytes))) {
        Ok(Some(Ok(generations))) => {
            recovered.state.generations = generations;
            return Ok(false);
        }
        Ok(Some(Err(BadFile::NewerVersion(version)))) => {
            return Err(OpenError::NewerVersion { path, version });
        }
        Ok(None) if !had_segments => {
            recovered.generations_unsaved = true;
            return Ok(false);
        }
        Ok(Some(Err(BadFile::Damaged))) => "damaged".to_owned(),
        Ok(None) => "not there".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), reason, "generations are lost: all records count as cleared");
    recovered.generations_unsaved = true;
    set_file_aside(disk, generations::FILE_NAME);
    Ok(true)
}

/// The memos, or none where they cannot be read: who kept them knows what to do without.
pub(in crate::store) fn load_memos(disk: &Disk) -> Result<Memos, OpenError> {
    let path = disk.path(memos::FILE_NAME);
    let read = disk.read(memos::FILE_NAME, MEMOS_BYTES_CEILING);
    let reason = match read.map(|file| file.map(|bytes| Memos::decode(&bytes))) {
        Ok(Some(Ok(memos))) => return Ok(memos),
        Ok(Some(Err(BadFile::NewerVersion(version)))) => {
            return Err(OpenError::NewerVersion { path, version });
        }
        Ok(None) => return Ok(Memos::default()),
        Ok(Some(Err(BadFile::Damaged))) => "damaged".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = %path.display(), reason, "memos are lost");
    set_file_aside(disk, memos::FILE_NAME);
    Ok(Memos::default())
}

fn set_file_aside(disk: &Disk, name: &str) {
    if let Err(error) = disk.rename(name, &format!("{name}.damaged")) {
        tracing::debug!(%error, name, "a file was not set aside");
    }
}

/// Opens a segment, without reading its records.
pub(super) fn open_segment(disk: &Disk, number: u32, recovered: &mut Recovered) -> Result<(), OpenError> {
    let (file, bytes, header) = match open_file(disk, &file_name(number)) {
        Ok(opened) => opened,
        Err(error) => {
            set_aside(disk, number, &error.to_string(), recovered);
            return Ok(());
        }
    };
    match read_header(&header) {
        Ok(identity) => {
            let segment = Segment::new(number, identity, file, bytes);
            recovered.state.segments.insert(number, Arc::new(segment));
            recovered.next_number = number.saturating_add(1);
        }
        Err(BadHeader::NewerVersion(version)) => {
            return Err(OpenError::NewerVersion { path: disk.path(&file_name(number)), version });
        }
        Err(BadHeader::OlderVersion(version)) => {
            let reason = format!("it has format version {version}, which is not read any more");
            set_aside(disk, number, &reason, recovered);
        }
        Err(BadHeader::Damaged) => set_aside(disk, number, "its header is damaged", recovered),
    }
    Ok(())
}

fn set_aside(disk: &Disk, number: u32, reason: &str, recovered: &mut Recovered) {
    recovered.damaged_segments += 1;
    tracing::warn!(number, reason, "a segment is set aside");
    if let Err(error) = disk.rename(&file_name(number), &damaged_name(number)) {
        tracing::warn!(%error, number, "a damaged segment stays where it is");
    }
    if let Err(error) = disk.remove(&contents_name(number)) {
        tracing::debug!(%error, number, "the contents of a damaged segment stay behind");
    }
}

/// The file, its length and its header.
fn open_file(disk: &Disk, name: &str) -> io::Result<(Arc<dyn VfsFile>, u64, [u8; HEADER_BYTES])> {
    let bytes = disk.length(name)?;
    if bytes > SEGMENT_BYTES_CEILING {
        return Err(too_long(bytes, SEGMENT_BYTES_CEILING));
    }
    let file = disk.open(name, Access::Read)?;
    let mut header = [0; HEADER_BYTES];
    read_exact_at(&*file, &mut header, 0)?;
    Ok((file, bytes, header))
}

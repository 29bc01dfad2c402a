//! A whole directory of any bytes.

use std::{sync::Arc, time::Duration};

use super::{GENERATIONS_MAGIC, MEMOS_MAGIC, SALT};
use crate::store::{
    Budget, Clock, Durability, Element, Identity, Key, NewRecord, OpenError, Options, Precision, Store,
    TtlMode, Vector, Vfs,
    class::Class,
    contents::Contents,
    record::Seat,
    sealed,
    segment::{HEADER_BYTES, contents_name, file_name, header},
    simulated::SimFs,
};

/// Of a record before its first field behind the checksum.
pub(super) const RECORD_HEAD_BYTES: usize = 12;
/// Of a file of contents before what its checksum is of.
const CONTENTS_HEAD_BYTES: usize = 16;
/// What a directory is tried with.
pub(super) const NAMESPACES: [&str; 2] = ["", "n"];

/// Recovery over a directory of files that these bytes describe. The store starts, works, and starts again.
///
/// # Panics
/// Where it does not.
pub fn directory(bytes: &[u8]) {
    let disk = SimFs::default();
    write_files(&disk, bytes);
    for _ in 0..2 {
        match Store::open(options(&disk)) {
            Ok(store) => work(&store),
            Err(OpenError::NewerVersion { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn work(store: &Store) {
    let (key, other) = (Key([0; 32]), Key([1; 32]));
    let bytes = [1.0_f32; 4].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into();
    let vector = Vector {
        identity: Identity([0; 32]),
        element: Element::Float32,
        precision: Precision::Float32,
        width: 4,
        tokens: 1,
        truncated: false,
        text: bytes::Bytes::new(),
        bytes,
    };
    for namespace in NAMESPACES {
        store.get_many(namespace, &[key, other], 1 << 20);
        store.put_many(namespace, &[NewRecord { key, vector: vector.clone(), ttl: None }], None);
        store.get_many(namespace, &[key], 1 << 20);
        store.keep();
        // A disk in memory takes every change.
        store.remove_many(namespace, &[key]).expect("a removal");
        store.clear(namespace).expect("a clear");
    }
    store.stats();
    store.close();
}

/// Of each file a name, a length, and that many bytes, which are framed so that what is in them is looked at.
fn write_files(disk: &SimFs, mut bytes: &[u8]) {
    while let Some((name, body, behind)) = part(bytes) {
        bytes = behind;
        let number = u32::from(name / 8 % 4);
        let (name, file) = match name % 8 {
            0 => (file_name(number), body.to_vec()),
            1..=3 => (file_name(number), segment(name, body)),
            4 => (contents_name(number), contents_file(body)),
            5 => (contents_name(number), body.to_vec()),
            6 => ("generations".to_owned(), sealed_file(GENERATIONS_MAGIC, body)),
            _ => ("memos".to_owned(), sealed_file(MEMOS_MAGIC, body)),
        };
        // The first of a name stays.
        if let Ok(made) = disk.create(&name) {
            made.write_at(&file, 0).expect("a disk in memory");
        }
    }
}

/// A byte, a length, and as many bytes as there are of it; what is behind.
fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([first, low, high], rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (body, behind) = rest.split_at(length);
    Some((*first, body, behind))
}

fn sealed_file(magic: &str, body: &[u8]) -> Vec<u8> {
    sealed::seal(magic, 1, &String::from_utf8_lossy(body)).into_bytes()
}

/// A segment with a right header, and records with right checksums.
fn segment(name: u8, mut body: &[u8]) -> Vec<u8> {
    let class = Class::of_code(name / 32).unwrap_or(Class::REMOVALS);
    let mut file = header(SALT, class);
    while let Some((_, fields, behind)) = part(body) {
        body = behind;
        let seat = Seat { salt: SALT, offset: file.len() as u64 };
        let bytes = u32::try_from(RECORD_HEAD_BYTES + fields.len()).unwrap_or(u32::MAX);
        let summed = [&bytes.to_le_bytes()[..], fields].concat();
        file.extend(seat.mark());
        file.extend(seat.checksum(&summed).to_le_bytes());
        file.extend(summed);
    }
    file
}

/// A file of contents with a right head.
fn contents_file(body: &[u8]) -> Vec<u8> {
    let mut file = Contents::default().encode(SALT, HEADER_BYTES as u64);
    file.truncate(CONTENTS_HEAD_BYTES + size_of_val(&SALT));
    file.extend(body);
    let checksum = crc32fast::hash(&file[CONTENTS_HEAD_BYTES..]);
    file[CONTENTS_HEAD_BYTES - 4..CONTENTS_HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    file
}

#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now_ms(&self) -> u64 {
        1_000_000
    }
}

fn options(disk: &SimFs) -> Options {
    let budget =
        Budget { entries_max: 64, bytes_max: 1 << 20, segment_bytes_max: 1 << 16, index_bytes_max: 1 << 20 };
    Options {
        vfs: Arc::new(disk.clone()),
        budget,
        default_ttl: Duration::from_secs(60),
        ttl_mode: TtlMode::Absolute,
        ttl_jitter_percent: 0,
        durability: Durability::Interval,
        clock: Arc::new(StillClock),
    }
}

//! All records of a namespace, a page at a time, oldest segment first: for exports and for people.

use bytes::Bytes;

use super::{
    Store,
    class::Class,
    reading::{Asked, hit_of},
    record::Record,
    recovery::read_contents,
    segment::Segment,
    vector::{Hit, Key, Prefix},
};

/// Where a page begins: a segment, and an offset in it. Opaque to callers; 0 is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor(pub u64);

/// Some records.
#[derive(Debug)]
pub struct Page {
    /// What was found, each with its key.
    pub records: Vec<(Key, Hit)>,
    /// Where the next page begins; none after the last one.
    pub next: Option<Cursor>,
}

impl Cursor {
    fn new(segment: u32, offset: u32) -> Self {
        Self((u64::from(segment) << 32) | u64::from(offset))
    }

    fn segment(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }

    fn offset(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

impl Store {
    /// The records of `namespace` from `from` on, at most `count` and at most `vector_bytes_max` of vectors, but at least one.
    /// What is moved while somebody turns pages may come twice.
    pub fn list(&self, namespace: &str, from: Cursor, count: usize, vector_bytes_max: usize) -> Page {
        let asked =
            Asked { namespace, generation: self.generation(namespace), now_ms: self.timeline.now_ms() };
        let segments: Vec<_> =
            self.read_state().segments.range(from.segment()..).map(|(_, it)| it.clone()).collect();
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes_left = vector_bytes_max;
        for segment in segments.iter().filter(|segment| segment.class != Class::REMOVALS) {
            let start = if segment.number == from.segment() { from.offset() } else { 0 };
            let contents = read_contents(&self.disk, segment).0;
            for entry in contents.entries().iter().filter(|entry| entry.offset >= start) {
                let Some((key, hit)) = self.listed(asked, segment, entry.prefix, entry.offset) else {
                    continue;
                };
                let bytes = hit.vector.bytes.len();
                let is_full = page.records.len() >= count || bytes > bytes_left;
                if is_full && !page.records.is_empty() {
                    page.next = Some(Cursor::new(segment.number, entry.offset));
                    return page;
                }
                bytes_left = bytes_left.saturating_sub(bytes);
                page.records.push((key, hit));
            }
        }
        page
    }

    /// The record at this place, if the index still leads to it.
    fn listed(&self, asked: Asked<'_>, segment: &Segment, prefix: Prefix, offset: u32) -> Option<(Key, Hit)> {
        let (location, _) = self.locate(asked.namespace, &prefix)?;
        if location.segment != segment.number || location.offset != offset {
            return None;
        }
        let bytes = Bytes::from(segment.read(offset.into(), location.bytes as usize).ok()?);
        let (record, _) = Record::decode(&bytes, segment.seat(offset.into())).ok()?;
        let is_wanted = record.namespace == asked.namespace
            && record.generation == asked.generation
            && record.expires_ms > asked.now_ms;
        let hit = hit_of(&record, &bytes, asked.now_ms).filter(|_| is_wanted)?;
        Some((record.key, hit))
    }
}

//! Vectors on their way to the shard, behind the backs of those who asked for them.
//!
//! ```text
//!  Draft::send ─▶ queue, bounded in records and in bytes ─▶ Writer (one task) ── PutMany ─▶ cache-shard
//!      full: dropped and counted                            again and again while nobody answers
//! ```
//!
//! Goals: no answer ever waits for a write; a shard that is away for a while loses nothing that fits the queue; it never
//! takes the room of another.
//!
//! Non-goals: nothing survives the end of this process but what was written; [`WriteBack::flush`] waits for that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    cache::{NewRecord, PutManyResponse, PutStatus},
    checksum,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    shard::{Shard, ShardError},
    watch::Watch,
};
use crate::{
    key::CacheKey,
    lookup::l1::CachedVector,
    metrics::{ShardMetrics, Written},
    precision,
    served::Model,
};

/// Records that may wait.
const RECORDS_MAX: usize = 16_384;
/// Records of one call, so that it stays far below what a shard takes in one message.
const CALL_RECORDS_MAX: usize = 128;
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// What a waiting record takes beside its numbers.
const OVERHEAD_BYTES: usize = 256;
/// What a shard keeps of a text at most.
const TEXT_CHARACTERS_MAX: usize = 200;

/// Under which generation of the shard's namespace a computation began, and who stores its vector.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) to: WriteBack,
    pub(super) generation: u64,
}

/// The right to store one vector.
#[derive(Debug)]
pub(crate) struct Draft {
    origin: Origin,
    key: CacheKey,
    identity: [u8; 32],
    expires: Instant,
    text: String,
}

impl Draft {
    /// The right to store the vector of `key`, as it is worth nothing before [`Self::until`].
    pub(super) fn of(origin: Origin, key: CacheKey, model: &Model) -> Self {
        let (identity, expires, text) = (model.identity_bytes, Instant::now(), String::new());
        Self { origin, key, identity, expires, text }
    }

    /// The same, with how the text begins.
    pub(crate) fn with_text(self, text: &str) -> Self {
        Self { text: text.chars().take(TEXT_CHARACTERS_MAX).collect(), ..self }
    }

    /// The same, for a vector that is kept until then.
    pub(super) fn until(self, expires: Instant) -> Self {
        Self { expires, ..self }
    }

    /// Queues the vector, where there is room.
    pub(crate) fn send(self, vector: &CachedVector) {
        let WriteBack { letters, part, metrics } = &self.origin.to;
        let queued =
            part.take(size_of_val(&*vector.pooled) + self.text.len() + OVERHEAD_BYTES).is_some_and(|room| {
                let entry = Entry {
                    record: self.record(vector),
                    expires: self.expires,
                    generation: self.origin.generation,
                    _room: room,
                };
                letters.try_send(Letter::Entry(Box::new(entry))).is_ok()
            });
        if !queued {
            metrics.written(Written::NoRoom, 1);
        }
    }

    fn record(&self, vector: &CachedVector) -> NewRecord {
        let record = NewRecord {
            key: Bytes::copy_from_slice(&self.key.0),
            width: u32::try_from(vector.pooled.len()).unwrap_or(u32::MAX),
            element_type: precision::element_type(vector.class).into(),
            precision_class: precision::to_stored(vector.class).into(),
            tokens: vector.tokens,
            truncated: vector.truncated,
            identity: Bytes::copy_from_slice(&self.identity),
            vector: precision::encode(vector.class, &vector.pooled).into(),
            // Known when it is sent.
            ttl_ms: 0,
            text: self.text.clone(),
            checksum: None,
        };
        NewRecord { checksum: Some(checksum::of_new_record(&record)), ..record }
    }
}

#[derive(Debug)]
struct Entry {
    record: NewRecord,
    expires: Instant,
    generation: u64,
    _room: Taken,
}

#[derive(Debug)]
enum Letter {
    Entry(Box<Entry>),
    /// Answered once all before it is done with.
    Flush(oneshot::Sender<()>),
}

/// Bytes that may wait: so many for all shards, and an equal part for each. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    whole: Arc<Semaphore>,
    bytes_max: usize,
    shards: Arc<AtomicUsize>,
}

impl Room {
    /// For one shard, until [`Self::divide`] says otherwise.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self { whole: Arc::new(Semaphore::new(bytes_max)), bytes_max, shards: Arc::new(AtomicUsize::new(1)) }
    }

    /// From now on so many shards share it.
    pub(super) fn divide(&self, shards: usize) {
        self.shards.store(shards.max(1), Ordering::Relaxed);
    }
}

/// What one shard may take of the room.
#[derive(Debug, Clone)]
struct Part {
    room: Room,
    taken: Arc<AtomicUsize>,
}

impl Part {
    fn take(&self, bytes: usize) -> Option<Taken> {
        let bytes_max = self.room.bytes_max / self.room.shards.load(Ordering::Relaxed);
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let permit = u32::try_from(bytes)
            .ok()
            .filter(|_| before + bytes <= bytes_max)
            .and_then(|bytes| self.room.whole.clone().try_acquire_many_owned(bytes).ok());
        // Made in any case: dropping it gives back what was counted above.
        let taken = Taken { bytes, of: self.taken.clone(), permit };
        taken.permit.is_some().then_some(taken)
    }
}

/// Bytes of the room, until it is dropped.
#[derive(Debug)]
struct Taken {
    bytes: usize,
    of: Arc<AtomicUsize>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where the vectors of one shard wait; clones share it, and the writer ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct WriteBack {
    letters: mpsc::Sender<Letter>,
    part: Part,
    metrics: ShardMetrics,
}

impl WriteBack {
    /// Starts writing to `shard` until `stop`; what waits takes a part of `room`.
    pub(super) fn start(
        shard: Shard,
        watch: Arc<Watch>,
        room: Room,
        metrics: ShardMetrics,
        stop: CancellationToken,
    ) -> Self {
        let (letters, received) = mpsc::channel(RECORDS_MAX);
        let writer = Writer { shard, watch, metrics: metrics.clone() };
        tokio::spawn(async move { stop.run_until_cancelled_owned(writer.run(received)).await });
        Self { letters, part: Part { room, taken: Arc::default() }, metrics }
    }

    /// Waits until all that is queued now is written or given up, but no longer than `patience`.
    pub(crate) async fn flush(&self, patience: Duration) {
        let (done, written) = oneshot::channel();
        let flushed = async { self.letters.send(Letter::Flush(done)).await.is_ok() && written.await.is_ok() };
        if timeout(patience, flushed).await != Ok(true) {
            let shard = self.metrics.shard();
            tracing::warn!(
                shard,
                ?patience,
                "not every new vector reached the cache shard; those left are computed again"
            );
        }
    }
}

struct Writer {
    shard: Shard,
    watch: Arc<Watch>,
    metrics: ShardMetrics,
}

impl Writer {
    async fn run(self, mut letters: mpsc::Receiver<Letter>) {
        let mut received = Vec::new();
        while letters.recv_many(&mut received, CALL_RECORDS_MAX.min(self.watch.keys_max())).await > 0 {
            let mut entries: Vec<Entry> = Vec::new();
            for letter in received.drain(..) {
                match letter {
                    Letter::Entry(entry) => {
                        if entries.first().is_some_and(|first| first.generation != entry.generation) {
                            self.write(std::mem::take(&mut entries)).await;
                        }
                        entries.push(*entry);
                    }
                    Letter::Flush(done) => {
                        self.write(std::mem::take(&mut entries)).await;
                        // Whoever waited may have lost patience.
                        done.send(()).ok();
                    }
                }
            }
            self.write(entries).await;
        }
    }

    /// Writes entries of one generation, however long that takes.
    async fn write(&self, mut entries: Vec<Entry>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let now = Instant::now();
            let before = entries.len();
            entries.retain(|entry| remaining_ms(entry, now) > 0);
            self.metrics.written(Written::Expired, before - entries.len());
            let Some(generation) = entries.first().map(|entry| entry.generation) else { return };
            let records = entries
                .iter()
                .map(|entry| NewRecord { ttl_ms: remaining_ms(entry, now), ..entry.record.clone() });
            match self.shard.put_many(records.collect(), generation, now + CALL_TIMEOUT).await {
                Ok(answer) => return self.count(&answer, entries.len()),
                Err(ShardError::Wrong(why)) => {
                    let shard = self.metrics.shard();
                    tracing::error!(shard, why, records = entries.len(), "new vectors were not stored");
                    return self.metrics.written(Written::Refused, entries.len());
                }
                Err(ShardError::Late | ShardError::Unavailable(_)) => {
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn count(&self, answer: &PutManyResponse, sent: usize) {
        for result in answer.results.iter().take(sent) {
            let written = match result.status() {
                PutStatus::Accepted => Written::Accepted,
                PutStatus::Kept => Written::Kept,
                PutStatus::Stale => Written::Stale,
                PutStatus::Unspecified
                | PutStatus::Invalid
                | PutStatus::DiskFull
                | PutStatus::ReadOnly
                | PutStatus::IoError
                | PutStatus::OverBudget => Written::Refused,
            };
            self.metrics.written(written, 1);
        }
    }
}

fn remaining_ms(entry: &Entry, now: Instant) -> u64 {
    u64::try_from(entry.expires.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(room: &Room) -> [Part; 2] {
        [(); 2].map(|()| Part { room: room.clone(), taken: Arc::default() })
    }

    #[test]
    fn no_shard_takes_the_room_of_another() {
        let room = Room::new(1000);
        room.divide(2);
        let [one, other] = parts(&room);
        let taken = one.take(500).unwrap();
        assert!(one.take(1).is_none());
        assert!(other.take(500).is_some());
        drop(taken);
        assert!(one.take(501).is_none() && one.take(500).is_some());
    }

    #[test]
    fn the_whole_holds_also_while_a_shard_has_more_than_its_new_part() {
        let room = Room::new(1000);
        let [one, other] = parts(&room);
        let taken = one.take(800).unwrap();
        room.divide(2);
        assert!(other.take(300).is_none());
        drop(taken);
        assert!(other.take(300).is_some());
    }
}

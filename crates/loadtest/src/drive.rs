//! The closed loop: every client sends, waits, and sends again until the time is up.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use crate::{
    client::{Client, Outcome, Target},
    record::Record,
    workload::Workload,
};

/// What a client does after an error, so that refusals are not answered by a storm of requests.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// Texts of a request while the caches are filled.
const CACHING_TEXTS: usize = 8;
const CACHING_REQUESTS: usize = 4;

/// All clients, their connections and their texts; kept from one phase to the next.
#[derive(Debug)]
pub(crate) struct Load {
    clients: Vec<Arc<Mutex<Client>>>,
    workload: Arc<Workload>,
    texts_per_request: NonZeroUsize,
    seed: u64,
    /// Requests of all phases so far, for the display.
    pub(crate) sent: Arc<AtomicU64>,
}

/// A phase with its true length: from the first request to the last answer.
#[derive(Debug)]
pub(crate) struct Phase {
    /// What all clients measured.
    pub(crate) record: Record,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

impl Load {
    /// `clients` clients of `target`.
    pub(crate) fn new(
        target: &Target,
        clients: u16,
        workload: Arc<Workload>,
        texts_per_request: NonZeroUsize,
        seed: u64,
    ) -> Self {
        let clients = (0..clients).map(|_| Arc::new(Mutex::new(Client::new(target.clone())))).collect();
        Self { clients, workload, texts_per_request, seed, sent: Arc::default() }
    }

    /// Sends every text that repeats once, so that the caches hold it.
    ///
    /// # Errors
    /// The first request that failed.
    pub(crate) async fn fill_caches(&self) -> anyhow::Result<()> {
        let chunks = self.workload.to_cache().chunks(CACHING_TEXTS).zip(self.clients.iter().cycle());
        stream::iter(chunks)
            .map(async |(texts, client)| {
                let texts: Vec<_> = texts.iter().map(Into::into).collect();
                match client.lock().await.embed(&texts).await {
                    Outcome::Answered { .. } => Ok(()),
                    Outcome::Failed(kind) => Err(anyhow::anyhow!("filling the caches failed: {kind}")),
                    Outcome::TimedOut => Err(anyhow::anyhow!("filling the caches failed: timeout")),
                }
            })
            .buffer_unordered(CACHING_REQUESTS)
            .try_collect()
            .await
    }

    /// Runs all clients for `length`; requests on their way at its end are waited for and counted.
    ///
    /// # Errors
    /// Where a client's task failed.
    pub(crate) async fn drive(&self, length: Duration) -> anyhow::Result<Phase> {
        let started = Instant::now();
        let mut record = Record::new()?;
        if length.is_zero() {
            return Ok(Phase { record, elapsed: length });
        }
        let mut running = JoinSet::new();
        for (number, client) in (0..).zip(&self.clients) {
            let client = Arc::clone(client);
            let workload = Arc::clone(&self.workload);
            let sent = Arc::clone(&self.sent);
            let rng = StdRng::seed_from_u64(self.seed.wrapping_add(number));
            let texts_per_request = self.texts_per_request;
            running.spawn(async move {
                let mut client = client.lock().await;
                let mut one = OneClient {
                    client: &mut client,
                    workload: &workload,
                    texts_per_request,
                    rng,
                    sent: &sent,
                };
                one.loop_until(started + length).await
            });
        }
        while let Some(finished) = running.join_next().await {
            record.merge(finished??)?;
        }
        Ok(Phase { record, elapsed: started.elapsed() })
    }
}

struct OneClient<'a> {
    client: &'a mut Client,
    workload: &'a Workload,
    texts_per_request: NonZeroUsize,
    rng: StdRng,
    sent: &'a AtomicU64,
}

impl OneClient<'_> {
    async fn loop_until(&mut self, end: Instant) -> anyhow::Result<Record> {
        let mut record = Record::new()?;
        // At least one request a client: a short phase on a busy machine still measures something.
        loop {
            let texts = self.workload.take(self.texts_per_request, &mut self.rng);
            let started = Instant::now();
            let outcome = self.client.embed(&texts).await;
            let latency = started.elapsed();
            let failed = !matches!(outcome, Outcome::Answered { .. });
            record.add(outcome, texts.len(), latency)?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            if failed {
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            if Instant::now() >= end {
                return Ok(record);
            }
        }
    }
}

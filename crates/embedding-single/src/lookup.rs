//! From the texts of a request to their vectors: L1, then a computation that may be shared, then ml-base.
//!
//! ```text
//!  texts ─▶ distinct keys ─▶ L1 ── hit ──────────────────────────┐
//!                             └─▶ single_flight ── follower ─────┤─▶ vectors, in the order of the texts
//!                                  └─ leader ─▶ miss ─▶ ml-base ─┘
//! ```
//!
//! A request waits for all its texts even if one fails, so that the neighbours of a bad text are cached.

pub(crate) mod l1;
pub(crate) mod single_flight;

use std::{
    collections::{HashMap, hash_map},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::inference::Truncation;
use tokio::time::Instant;

use crate::{
    config::{CacheLimits, MissLimits},
    key::{CacheKey, Keys, Space},
    lookup::{
        l1::{CachedVector, L1},
        single_flight::{Flights, Joined, Ticket, Waiter},
    },
    metrics::{LookupOutcome, Metrics},
    miss::{Dispatcher, Miss, MissError, StageTimes},
    models::Model,
};

/// Whether a request may use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheUse {
    /// Read it and write it.
    Full,
    /// Neither, and share no computation.
    Bypass,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The model.
    pub(crate) model: &'a Arc<Model>,
    /// The texts, at least one.
    pub(crate) texts: &'a [String],
    /// What happens to a text over the model's limit.
    pub(crate) truncation: Truncation,
    /// The longest time the caller wants new vectors kept.
    pub(crate) ttl: Option<Duration>,
    /// Whether it may use the cache.
    pub(crate) cache: CacheUse,
}

/// What a request gets.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// One for each text, in their order.
    pub(crate) vectors: Vec<Arc<CachedVector>>,
    /// Texts that were in L1.
    pub(crate) hits: usize,
    /// Time until it was known which texts are missing.
    pub(crate) lookup_time: Duration,
    /// Time of the slowest text in each stage of ml-base.
    pub(crate) times: StageTimes,
}

/// The first text that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its index in the request.
    pub(crate) index: usize,
    /// Why.
    pub(crate) error: MissError,
}

/// Distinct texts looked up since the start or the last clear.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A text's vector, or the wait for it.
enum Place {
    Hit(Arc<CachedVector>),
    Waits(Waiter),
}

/// The lookup of a whole proxy.
#[derive(Debug)]
pub(crate) struct Lookup {
    l1: Arc<L1>,
    flights: Flights,
    counts: Counts,
    dispatcher: Dispatcher,
    namespace: String,
    ttl_max: Duration,
    compute_timeout: Duration,
    metrics: Metrics,
}

impl Lookup {
    /// Looks up in `l1` and sends what is missing to `dispatcher`.
    pub(crate) fn new(
        l1: Arc<L1>,
        dispatcher: Dispatcher,
        namespace: String,
        cache: &CacheLimits,
        misses: &MissLimits,
        metrics: Metrics,
    ) -> Self {
        Self {
            flights: Flights::new(l1.clone()),
            l1,
            counts: Counts::default(),
            dispatcher,
            namespace,
            ttl_max: cache.ttl,
            compute_timeout: misses.compute_timeout,
            metrics,
        }
    }

    /// The vectors of a request's texts.
    ///
    /// Dropping the future leaves all its computations.
    ///
    /// # Errors
    /// The first text that failed, once the outcome of all is known.
    pub(crate) async fn vectors(&self, asked: &Asked<'_>) -> Result<Gathered, Failed> {
        let start = Instant::now();
        let distinct = Distinct::of(&self.keys(asked), asked.texts);
        let (places, misses): (Vec<_>, Vec<_>) =
            distinct.texts.iter().map(|(key, first)| self.place(asked, *key, *first, start)).unzip();
        let misses: Vec<_> = misses.into_iter().flatten().collect();
        self.dispatcher.submit(misses);
        let lookup_time = start.elapsed();
        let hit: Vec<bool> = places.iter().map(|place| matches!(place, Place::Hit(_))).collect();
        let (vectors, times) = wait_for_all(places, &distinct).await?;
        Ok(Gathered {
            hits: distinct.slots.iter().filter(|slot| hit[**slot]).count(),
            vectors: distinct.slots.iter().map(|slot| vectors[*slot].clone()).collect(),
            lookup_time,
            times,
        })
    }

    /// Forgets every vector and starts counting anew; returns how many were forgotten.
    pub(crate) fn clear(&self) -> usize {
        self.counts.hits.store(0, Ordering::Relaxed);
        self.counts.misses.store(0, Ordering::Relaxed);
        self.l1.clear()
    }

    /// Vectors in L1, hits and misses since the start or the last clear.
    pub(crate) fn stats(&self) -> (usize, u64, u64) {
        let Counts { hits, misses } = &self.counts;
        (self.l1.size().entries, hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed))
    }

    fn keys(&self, asked: &Asked<'_>) -> Keys {
        Keys::new(&Space {
            namespace: &self.namespace,
            identity: &asked.model.identity,
            // No model that is served now has prompts of its own.
            prompt: "",
            truncation: asked.truncation,
            tokens_max: asked.model.tokens_max,
        })
    }

    fn place(&self, asked: &Asked<'_>, key: CacheKey, index: usize, now: Instant) -> (Place, Option<Miss>) {
        let (outcome, place, ticket) = match asked.cache {
            CacheUse::Full => self.share(key, asked.ttl, now),
            CacheUse::Bypass => {
                let (waiter, ticket) = self.flights.alone(key);
                (LookupOutcome::Bypass, Place::Waits(waiter), Some(ticket))
            }
        };
        self.count(outcome);
        let miss = ticket.map(|ticket| Miss {
            text: asked.texts[index].clone(),
            truncation: asked.truncation,
            model: asked.model.clone(),
            ticket,
            queued_at: now,
            deadline: now + self.compute_timeout,
        });
        (place, miss)
    }

    fn share(
        &self,
        key: CacheKey,
        ttl: Option<Duration>,
        now: Instant,
    ) -> (LookupOutcome, Place, Option<Ticket>) {
        if let Some(vector) = self.l1.get(&key, now) {
            return (LookupOutcome::L1Hit, Place::Hit(vector), None);
        }
        let ttl = ttl.map_or(self.ttl_max, |ttl| ttl.min(self.ttl_max));
        match self.flights.join(key, ttl, now) {
            Joined::Found(vector) => (LookupOutcome::L1Hit, Place::Hit(vector), None),
            Joined::Follower(waiter) => (LookupOutcome::Coalesced, Place::Waits(waiter), None),
            Joined::Leader(waiter, ticket) => (LookupOutcome::Miss, Place::Waits(waiter), Some(ticket)),
        }
    }

    fn count(&self, outcome: LookupOutcome) {
        self.metrics.lookup(outcome);
        match outcome {
            LookupOutcome::L1Hit => self.counts.hits.fetch_add(1, Ordering::Relaxed),
            LookupOutcome::Coalesced | LookupOutcome::Miss => {
                self.counts.misses.fetch_add(1, Ordering::Relaxed)
            }
            LookupOutcome::Bypass => 0,
        };
    }
}

/// The texts of a request without repetitions.
struct Distinct {
    /// Key and index of the first occurrence.
    texts: Vec<(CacheKey, usize)>,
    /// For each text of the request, where it is in `texts`.
    slots: Vec<usize>,
}

impl Distinct {
    fn of(keys: &Keys, texts: &[String]) -> Self {
        let mut seen = HashMap::with_capacity(texts.len());
        let mut distinct =
            Self { texts: Vec::with_capacity(texts.len()), slots: Vec::with_capacity(texts.len()) };
        for (index, text) in texts.iter().enumerate() {
            let key = keys.of(text);
            let slot = match seen.entry(key) {
                hash_map::Entry::Occupied(slot) => *slot.get(),
                hash_map::Entry::Vacant(vacant) => {
                    distinct.texts.push((key, index));
                    *vacant.insert(distinct.texts.len() - 1)
                }
            };
            distinct.slots.push(slot);
        }
        distinct
    }
}

async fn wait_for_all(
    places: Vec<Place>,
    distinct: &Distinct,
) -> Result<(Vec<Arc<CachedVector>>, StageTimes), Failed> {
    let mut vectors = Vec::with_capacity(places.len());
    let mut times = StageTimes::default();
    let mut failed = None;
    // Kept until all are done, because the last to leave cancels.
    let mut places = places;
    for (place, (_, index)) in places.iter_mut().zip(&distinct.texts) {
        match place {
            Place::Hit(vector) => vectors.push(vector.clone()),
            Place::Waits(waiter) => match waiter.outcome().await {
                Ok(computed) => {
                    times = times.slowest(computed.times);
                    vectors.push(computed.vector);
                }
                Err(error) => failed = failed.or(Some(Failed { index: *index, error })),
            },
        }
    }
    failed.map_or(Ok((vectors, times)), Err)
}

//! From the texts of a request to their vectors: L1, then a flight that may be shared, then the shards, then ml-base.
//!
//! ```text
//!  texts ─▶ distinct keys ─▶ L1 ── hit ──────────────────────────────────┐
//!                             └─▶ single_flight ── follower ─────────────┤
//!                                  └─ leader ─▶ L2 ── hit ─▶ into L1 ────┤─▶ vectors, in the order of the texts
//!                                               └─ miss ─▶ ml-base ──────┘
//!                                                            └─▶ L1, and L2 later
//! ```
//!
//! A request waits for all its texts even if one fails, so that the neighbours of a bad text are cached.

pub(crate) mod counts;
pub(crate) mod l1;
pub(crate) mod l2;
pub(crate) mod single_flight;
mod sync;

#[cfg(test)]
mod interleavings;

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use protocol::inference::Truncation;
use tokio::time::Instant;

use crate::{
    key::{CacheKey, Keys, Space},
    lookup::{
        counts::Counts,
        l1::{CachedVector, L1},
        l2::{Found, L2, NotCleared},
        single_flight::{Flights, Joined, Obtained, Source, StageTimes, Ticket, Waiter},
    },
    metrics::{LookupOutcome, Metrics},
    miss::{Dispatcher, Miss, MissError},
    served::Model,
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
    /// What goes in front of each text; may be empty.
    pub(crate) prompt: &'a Arc<str>,
    /// What happens to a text over the model's limit.
    pub(crate) truncation: Truncation,
    /// The longest time the caller wants new vectors kept.
    pub(crate) ttl: Option<Duration>,
    /// Whether it may use the cache.
    pub(crate) cache: CacheUse,
}

/// A text's vector.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    /// The vector, as it is kept.
    pub(crate) vector: Arc<CachedVector>,
    /// Where it came from.
    pub(crate) source: Source,
}

/// What a request gets.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// One for each text, in their order.
    pub(crate) texts: Vec<Embedded>,
    /// Time until it was known which texts are not in L1.
    pub(crate) lookup_time: Duration,
    /// Time of the slowest text in each stage behind L1.
    pub(crate) times: StageTimes,
}

impl Gathered {
    /// Texts that were in L1 or L2.
    pub(crate) fn hits(&self) -> usize {
        self.texts.iter().filter(|text| text.source != Source::Computed).count()
    }
}

/// The first text that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its index in the request.
    pub(crate) index: usize,
    /// Why.
    pub(crate) error: MissError,
}

/// The levels of the cache.
#[derive(Debug)]
pub(crate) struct Caches {
    /// In this process.
    pub(crate) l1: Arc<L1>,
    /// How long a vector stays there.
    pub(crate) l1_ttl: Duration,
    /// The cache shards, where there are any.
    pub(crate) l2: Option<Arc<L2>>,
}

/// How the clearing of the cache ended.
#[derive(Debug)]
pub(crate) struct Cleared {
    /// Vectors that were in L1.
    pub(crate) l1_entries: usize,
    /// Whether the cache shards are empty too.
    pub(crate) l2: Result<(), NotCleared>,
}

/// A text's vector, or the wait for it.
enum Place {
    Hit(Arc<CachedVector>),
    Waits(Waiter),
}

/// The lookup of a whole proxy.
#[derive(Debug)]
pub(crate) struct Lookup {
    caches: Caches,
    flights: Flights,
    counts: Arc<Counts>,
    dispatcher: Dispatcher,
    namespace: String,
    compute_timeout: Duration,
}

impl Lookup {
    /// Looks up in `caches` and sends what is missing to `dispatcher`.
    pub(crate) fn new(
        caches: Caches,
        dispatcher: Dispatcher,
        namespace: String,
        compute_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            flights: Flights::new(caches.l1.clone()),
            caches,
            counts: Arc::new(Counts::new(metrics)),
            dispatcher,
            namespace,
            compute_timeout,
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
        self.send(asked, misses.into_iter().flatten().collect());
        let lookup_time = start.elapsed();
        let (ended, times) = wait_for_all(places, &distinct).await?;
        Ok(Gathered {
            texts: distinct.slots.iter().map(|slot| ended[*slot].clone()).collect(),
            lookup_time,
            times,
        })
    }

    /// Forgets every vector, here and in the cache shards, and starts counting anew.
    ///
    /// # Errors
    /// If L1's clearing did not end.
    pub(crate) async fn clear(&self) -> Result<Cleared, tokio::task::JoinError> {
        let l1_before = self.clear_l1().await?;
        let l2 = match &self.caches.l2 {
            Some(l2) => l2.clear().await,
            None => Ok(()),
        };
        // Once more, for what the shards still gave until then.
        let l1_entries = l1_before + self.clear_l1().await?;
        self.counts.reset();
        Ok(Cleared { l1_entries, l2 })
    }

    async fn clear_l1(&self) -> Result<usize, tokio::task::JoinError> {
        let l1 = self.caches.l1.clone();
        // Freeing a full cache takes long enough to hold up others.
        tokio::task::spawn_blocking(move || l1.clear()).await
    }

    /// What was found where, since the start or the last clear.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The levels.
    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// What the texts of a request are found by.
    pub(crate) fn keys(&self, asked: &Asked<'_>) -> Keys {
        Keys::new(&Space {
            namespace: &self.namespace,
            identity: &asked.model.identity,
            prompt: asked.prompt,
            truncation: asked.truncation,
            tokens_max: asked.model.tokens_max,
        })
    }

    fn place(&self, asked: &Asked<'_>, key: CacheKey, index: usize, now: Instant) -> (Place, Option<Miss>) {
        let (outcome, place, ticket) = match asked.cache {
            CacheUse::Full => self.share(key, asked.ttl, now),
            CacheUse::Bypass => {
                let (waiter, ticket) = self.flights.alone(key);
                (Some(LookupOutcome::Bypass), Place::Waits(waiter), Some(ticket))
            }
        };
        if let Some(outcome) = outcome {
            self.counts.count(outcome);
        }
        let miss = ticket.map(|ticket| Miss {
            text: asked.texts[index].clone(),
            prompt: asked.prompt.clone(),
            truncation: asked.truncation,
            model: asked.model.clone(),
            ticket,
            draft: None,
            l2_time: Duration::ZERO,
            queued_at: now,
            deadline: now + self.compute_timeout,
        });
        (place, miss)
    }

    /// The outcome of a leader is not known before L2 was asked.
    fn share(
        &self,
        key: CacheKey,
        ttl: Option<Duration>,
        now: Instant,
    ) -> (Option<LookupOutcome>, Place, Option<Ticket>) {
        if let Some(vector) = self.caches.l1.get(&key, now) {
            return (Some(LookupOutcome::L1Hit), Place::Hit(vector), None);
        }
        let ttl = ttl.map_or(self.caches.l1_ttl, |ttl| ttl.min(self.caches.l1_ttl));
        match self.flights.join(key, ttl, now) {
            Joined::Found(vector) => (Some(LookupOutcome::L1Hit), Place::Hit(vector), None),
            Joined::Follower(waiter) => (Some(LookupOutcome::Coalesced), Place::Waits(waiter), None),
            Joined::Leader(waiter, ticket) => (None, Place::Waits(waiter), Some(ticket)),
        }
    }

    /// Sends what is not in L1 on its way, without waiting: the flights belong to whoever joins them, not to this
    /// request.
    fn send(&self, asked: &Asked<'_>, misses: Vec<Miss>) {
        if misses.is_empty() {
            return;
        }
        match (&self.caches.l2, asked.cache) {
            (Some(l2), CacheUse::Full) => {
                let passage = Passage {
                    l2: l2.clone(),
                    l2_ttl: l2.ttl(asked.ttl),
                    counts: self.counts.clone(),
                    dispatcher: self.dispatcher.clone(),
                };
                tokio::spawn(passage.carry(asked.model.clone(), misses));
            }
            (None, CacheUse::Full) => {
                misses.iter().for_each(|_| self.counts.count(LookupOutcome::Miss));
                self.dispatcher.submit(misses);
            }
            (_, CacheUse::Bypass) => self.dispatcher.submit(misses),
        }
    }
}

/// The way of one request's misses through L2.
struct Passage {
    l2: Arc<L2>,
    l2_ttl: Duration,
    counts: Arc<Counts>,
    dispatcher: Dispatcher,
}

impl Passage {
    async fn carry(self, model: Arc<Model>, misses: Vec<Miss>) {
        let start = Instant::now();
        let keys: Vec<_> = misses.iter().map(|miss| miss.ticket.key()).collect();
        let mut misses: Vec<_> = misses.into_iter().map(Some).collect();
        let take = |index: usize, found| {
            if let Some(miss) = misses[index].take() {
                self.hit(miss, found, start.elapsed());
            }
        };
        self.l2.look_up(&model, &keys, take).await;
        let l2_time = start.elapsed();
        let mut missing: Vec<_> = misses.into_iter().flatten().collect();
        let keys: Vec<_> = missing.iter().map(|miss| miss.ticket.key()).collect();
        for (miss, draft) in missing.iter_mut().zip(self.l2.drafts(&keys, &model, self.l2_ttl)) {
            self.counts.count(LookupOutcome::Miss);
            let text = self.l2.text_to_keep(&miss.text);
            (miss.draft, miss.l2_time) = (draft.map(|draft| draft.with_text(text)), l2_time);
        }
        self.dispatcher.submit(missing);
    }

    fn hit(&self, miss: Miss, found: Found, l2_time: Duration) {
        self.counts.count(LookupOutcome::L2Hit);
        let obtained = Obtained {
            vector: Arc::new(found.vector),
            source: Source::L2,
            times: StageTimes { l2: l2_time, ..StageTimes::default() },
        };
        miss.ticket.complete_until(found.remaining, obtained);
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

/// What became of each distinct text.
async fn wait_for_all(
    places: Vec<Place>,
    distinct: &Distinct,
) -> Result<(Vec<Embedded>, StageTimes), Failed> {
    let mut ended = Vec::with_capacity(places.len());
    let mut times = StageTimes::default();
    let mut failed = None;
    // Kept until all are done, because the last to leave cancels.
    let mut places = places;
    for (place, (_, index)) in places.iter_mut().zip(&distinct.texts) {
        match place {
            Place::Hit(vector) => ended.push(Embedded { vector: vector.clone(), source: Source::L1 }),
            Place::Waits(waiter) => match waiter.outcome().await {
                Ok(obtained) => {
                    times = times.slowest(obtained.times);
                    ended.push(Embedded { vector: obtained.vector, source: obtained.source });
                }
                Err(error) => failed = failed.or(Some(Failed { index: *index, error })),
            },
        }
    }
    failed.map_or(Ok((ended, times)), Err)
}

//! At most one computation of a key at a time, whoever asks.
//!
//! ```text
//!  leader ───▶ Waiter ─┐                       ┌─▶ L1
//!  follower ─▶ Waiter ─┼─ Flight ◀── Ticket ───┤
//!  follower ─▶ Waiter ─┘              (held by └─▶ every Waiter
//!                                 whoever computes)
//! ```
//!
//! The leader is only the first to ask: it waits as the followers do, and its ticket goes to whoever computes. A waiter
//! that is dropped leaves; when the last one leaves, the ticket says so and the key is free at once. A ticket that is
//! dropped without an outcome fails its waiters: nobody hangs.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
use crate::{
    key::CacheKey,
    lookup::l1::{CachedVector, Generation, L1},
    miss::error::MissError,
};

/// Where a vector came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// This process's memory.
    L1,
    /// The cache shard had it.
    L2,
    /// ml-base computed it.
    Computed,
}

/// Time spent in each stage behind L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageTimes {
    /// Asking the cache shard.
    pub(crate) l2: Duration,
    /// Making tokens.
    pub(crate) tokenization: Duration,
    /// Waiting for the device.
    pub(crate) queue: Duration,
    /// On the device.
    pub(crate) inference: Duration,
}

impl StageTimes {
    /// The longer time of each stage.
    #[must_use]
    pub(crate) fn slowest(self, other: Self) -> Self {
        Self {
            l2: self.l2.max(other.l2),
            tokenization: self.tokenization.max(other.tokenization),
            queue: self.queue.max(other.queue),
            inference: self.inference.max(other.inference),
        }
    }
}

/// A vector that was not in L1, and how long it took to get it.
#[derive(Debug, Clone)]
pub(crate) struct Obtained {
    /// The vector.
    pub(crate) vector: Arc<CachedVector>,
    /// Where it came from.
    pub(crate) source: Source,
    /// Time in each stage.
    pub(crate) times: StageTimes,
}

/// How a flight ended.
pub(crate) type Outcome = Result<Obtained, MissError>;

#[derive(Debug)]
struct Flight {
    key: CacheKey,
    /// Changed only under the lock of [`Shared::in_flight`].
    waiters: AtomicUsize,
    /// Cancelled when the last waiter leaves.
    abandoned: CancellationToken,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    fn new(key: CacheKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            waiters: AtomicUsize::new(0),
            abandoned: CancellationToken::new(),
            outcome: watch::Sender::new(None),
        })
    }
}

#[derive(Debug)]
struct Shared {
    in_flight: Mutex<HashMap<CacheKey, Arc<Flight>>>,
    l1: Arc<L1>,
}

impl Shared {
    /// Nothing that can panic runs under this lock, so a poisoned one is still whole.
    fn in_flight(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<Flight>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(in_flight: &mut HashMap<CacheKey, Arc<Flight>>, flight: &Arc<Flight>) {
        // A newcomer may have started the key afresh: that flight is another one.
        if in_flight.get(&flight.key).is_some_and(|other| Arc::ptr_eq(other, flight)) {
            in_flight.remove(&flight.key);
        }
    }
}

/// The computations in flight; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Flights(Arc<Shared>);

/// What somebody who asks for a key gets.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It came into L1 just now.
    Found(Arc<CachedVector>),
    /// The first to ask: the ticket has to go to whoever computes.
    Leader(Waiter, Ticket),
    /// Somebody asked before.
    Follower(Waiter),
}

impl Flights {
    /// No computation yet; what is computed goes into `l1`.
    pub(crate) fn new(l1: Arc<L1>) -> Self {
        Self(Arc::new(Shared { in_flight: Mutex::default(), l1 }))
    }

    /// Joins the computation of `key`, or starts one whose vector is kept for `ttl`.
    pub(crate) fn join(&self, key: CacheKey, ttl: Duration, now: Instant) -> Joined {
        let mut in_flight = self.0.in_flight();
        if let Some(flight) = in_flight.get(&key) {
            return Joined::Follower(self.wait_for(flight));
        }
        // A computation goes into L1 before it leaves the map: whoever finds it in neither, under this lock, is first.
        if let Some(vector) = self.0.l1.get(&key, now) {
            return Joined::Found(vector);
        }
        let flight = Flight::new(key);
        let waiter = self.wait_for(&flight);
        in_flight.insert(key, flight.clone());
        Joined::Leader(waiter, self.ticket(flight, Some(ttl)))
    }

    /// A computation that nobody can join and whose vector is not kept.
    pub(crate) fn alone(&self, key: CacheKey) -> (Waiter, Ticket) {
        let flight = Flight::new(key);
        (self.wait_for(&flight), self.ticket(flight, None))
    }

    fn wait_for(&self, flight: &Arc<Flight>) -> Waiter {
        flight.waiters.fetch_add(1, Ordering::Relaxed);
        Waiter { outcome: flight.outcome.subscribe(), flight: flight.clone(), shared: self.0.clone() }
    }

    fn ticket(&self, flight: Arc<Flight>, ttl: Option<Duration>) -> Ticket {
        Ticket { flight, ttl, generation: self.0.l1.generation(), shared: self.0.clone() }
    }
}

/// One who waits for a computation; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    flight: Arc<Flight>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Waiter {
    /// Waits for the end of the computation.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        // The sender lives as long as `self.flight`, so the channel does not close.
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(MissError::GivenUp)),
            Err(_) => Err(MissError::GivenUp),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut in_flight = self.shared.in_flight();
        if self.flight.waiters.fetch_sub(1, Ordering::Relaxed) == 1 {
            Shared::remove(&mut in_flight, &self.flight);
            drop(in_flight);
            self.flight.abandoned.cancel();
        }
    }
}

/// The right, and the duty, to end one computation.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    flight: Arc<Flight>,
    /// How long the vector is kept; `None` for not at all.
    ttl: Option<Duration>,
    generation: Generation,
}

impl Ticket {
    /// The key it is for.
    pub(crate) fn key(&self) -> CacheKey {
        self.flight.key
    }

    /// True once nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.flight.abandoned.is_cancelled()
    }

    /// Returns once nobody waits any more.
    pub(crate) async fn abandoned(&self) {
        self.flight.abandoned.cancelled().await;
    }

    /// Ends the flight: L1 first, then the map, then those who wait. Returns the vector that everybody sees.
    pub(crate) fn complete(self, outcome: Outcome) -> Option<Arc<CachedVector>> {
        let outcome = outcome.map(|obtained| Obtained { vector: self.keep(obtained.vector), ..obtained });
        let seen = outcome.as_ref().ok().map(|obtained| obtained.vector.clone());
        self.publish(outcome);
        seen
    }

    /// Ends the flight with a vector that is kept no longer than for `remaining`.
    pub(crate) fn complete_until(mut self, remaining: Duration, obtained: Obtained) {
        self.ttl = self.ttl.map(|ttl| ttl.min(remaining));
        self.complete(Ok(obtained));
    }

    fn keep(&self, vector: Arc<CachedVector>) -> Arc<CachedVector> {
        match self.ttl {
            Some(ttl) => self.shared.l1.insert(self.flight.key, vector, ttl, Instant::now(), self.generation),
            None => vector,
        }
    }

    fn publish(&self, outcome: Outcome) {
        Shared::remove(&mut self.shared.in_flight(), &self.flight);
        self.flight.outcome.send_if_modified(|published| {
            let first = published.is_none();
            if first {
                *published = Some(outcome);
            }
            first
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Changes nothing where the computation was completed.
        self.publish(Err(MissError::GivenUp));
    }
}

#[cfg(test)]
mod tests {
    use protocol::inference::PrecisionClass;
    use tokio::time::timeout;

    use super::*;

    const KEY: CacheKey = CacheKey([7; 32]);
    const TTL: Duration = Duration::from_secs(60);

    fn flights() -> Flights {
        Flights::new(Arc::new(L1::new(100, 1 << 20)))
    }

    fn computed(value: f32) -> Obtained {
        let vector = CachedVector {
            pooled: vec![value; 4].into(),
            tokens: 1,
            truncated: false,
            class: PrecisionClass::Float32,
        };
        Obtained { vector: Arc::new(vector), source: Source::Computed, times: StageTimes::default() }
    }

    fn lead(flights: &Flights) -> (Waiter, Ticket) {
        let Joined::Leader(waiter, ticket) = flights.join(KEY, TTL, Instant::now()) else {
            panic!("somebody leads already");
        };
        (waiter, ticket)
    }

    fn follow(flights: &Flights) -> Waiter {
        let Joined::Follower(waiter) = flights.join(KEY, TTL, Instant::now()) else {
            panic!("nobody leads");
        };
        waiter
    }

    async fn value(waiter: &mut Waiter) -> f32 {
        waiter.outcome().await.unwrap().vector.pooled[0]
    }

    #[tokio::test]
    async fn one_text_asked_by_64_is_computed_once() {
        let flights = flights();
        let (leader, ticket) = lead(&flights);
        let waiters: Vec<_> = std::iter::once(leader).chain((1..64).map(|_| follow(&flights))).collect();
        let asked =
            waiters.into_iter().map(|mut waiter| tokio::spawn(async move { value(&mut waiter).await }));
        let asked: Vec<_> = asked.collect();
        ticket.complete(Ok(computed(5.0)));
        for one in asked {
            assert_eq!(one.await.unwrap(), 5.0);
        }
        assert!(matches!(flights.join(KEY, TTL, Instant::now()), Joined::Found(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn follower_times_out_without_cancelling_leader() {
        let flights = flights();
        let (mut leader, ticket) = lead(&flights);
        let mut follower = follow(&flights);
        let patience = Duration::from_millis(5);
        assert!(timeout(patience, async move { follower.outcome().await }).await.is_err());
        assert!(!ticket.is_abandoned());
        ticket.complete(Ok(computed(1.0)));
        assert_eq!(value(&mut leader).await, 1.0);
    }

    #[tokio::test]
    async fn leader_that_leaves_does_not_strand_followers() {
        let flights = flights();
        let (leader, ticket) = lead(&flights);
        let mut follower = follow(&flights);
        drop(leader);
        assert!(!ticket.is_abandoned());
        ticket.complete(Ok(computed(2.0)));
        assert_eq!(value(&mut follower).await, 2.0);
    }

    #[tokio::test]
    async fn last_waiter_gone_cancels_the_computation() {
        let flights = flights();
        let (leader, ticket) = lead(&flights);
        let follower = follow(&flights);
        drop(leader);
        drop(follower);
        ticket.abandoned().await;
        assert!(flights.0.in_flight().is_empty());
    }

    #[tokio::test]
    async fn a_promoted_vector_leaves_l1_no_later_than_the_shard() {
        let flights = flights();
        let (_leader, ticket) = lead(&flights);
        let remaining = Duration::from_secs(5);
        ticket.complete_until(remaining, Obtained { source: Source::L2, ..computed(4.0) });
        let now = Instant::now();
        assert!(flights.0.l1.get(&KEY, now).is_some());
        assert!(flights.0.l1.get(&KEY, now + remaining).is_none());
    }

    #[tokio::test]
    async fn dropped_ticket_fails_waiters() {
        let flights = flights();
        let (mut leader, ticket) = lead(&flights);
        let mut follower = follow(&flights);
        drop(ticket);
        assert_eq!(leader.outcome().await.unwrap_err(), MissError::GivenUp);
        assert_eq!(follower.outcome().await.unwrap_err(), MissError::GivenUp);
        assert!(flights.0.in_flight().is_empty());
    }

    #[tokio::test]
    async fn newcomer_after_abandonment_starts_afresh() {
        let flights = flights();
        let (leader, old_ticket) = lead(&flights);
        drop(leader);
        let (mut newcomer, new_ticket) = lead(&flights);
        drop(old_ticket);
        assert!(!new_ticket.is_abandoned());
        // The old ticket's end must not have taken the new flight out of the map.
        let mut follower = follow(&flights);
        new_ticket.complete(Ok(computed(3.0)));
        assert_eq!((value(&mut newcomer).await, value(&mut follower).await), (3.0, 3.0));
    }

    #[tokio::test]
    async fn everybody_sees_the_vector_that_was_kept_first() {
        let flights = flights();
        let (leader, old_ticket) = lead(&flights);
        drop(leader);
        let (mut newcomer, new_ticket) = lead(&flights);
        old_ticket.complete(Ok(computed(1.0)));
        new_ticket.complete(Ok(computed(2.0)));
        assert_eq!(value(&mut newcomer).await, 1.0);
    }

    #[tokio::test]
    async fn a_computation_alone_is_neither_joined_nor_kept() {
        let flights = flights();
        let (mut waiter, ticket) = flights.alone(KEY);
        let (_leader, _ticket) = lead(&flights);
        ticket.complete(Ok(computed(9.0)));
        assert_eq!(value(&mut waiter).await, 9.0);
        assert!(flights.0.l1.get(&KEY, Instant::now()).is_none());
        drop(follow(&flights));
    }
}

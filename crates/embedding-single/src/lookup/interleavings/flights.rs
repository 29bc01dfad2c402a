//! Single-flight on top of L1.

use std::{array, sync::Arc};

use interleaving::{
    block_on, explore, one_of,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tokio::time::Instant;

use super::{TTL, key, value, vector};
use crate::{
    key::CacheKey,
    lookup::{
        l1::L1,
        single_flight::{Flights, Joined, Obtained, Source, StageTimes, Ticket, Waiter},
    },
    miss::MissError,
};

const SCHEDULES: u64 = 10_000;

/// A proxy's cache, and what stands for ml-base.
#[derive(Debug, Clone)]
struct World {
    l1: Arc<L1>,
    flights: Flights,
    /// Computations that were begun; each gives a vector of its own.
    begun: Arc<AtomicUsize>,
}

/// What becomes of a computation.
type Compute = fn(&World, Ticket);

fn obtained(value: usize) -> Obtained {
    Obtained { vector: vector(value, 4), source: Source::Computed, times: StageTimes::default() }
}

impl World {
    fn new() -> Self {
        let l1 = Arc::new(L1::new(10, 1 << 20));
        Self { flights: Flights::new(l1.clone()), l1, begun: Arc::default() }
    }

    fn join(&self, key: CacheKey) -> Joined {
        self.flights.join(key, TTL, Instant::now())
    }

    /// Asks for a key: what it has, or who waits for it.
    fn ask(&self, key: CacheKey, compute: Compute) -> Result<usize, Waiter> {
        match self.join(key) {
            Joined::Found(vector) => Ok(value(&vector)),
            Joined::Follower(waiter) => Err(waiter),
            Joined::Leader(waiter, ticket) => {
                let world = self.clone();
                thread::spawn(move || compute(&world, ticket));
                Err(waiter)
            }
        }
    }

    /// Nobody is left in the map: whoever asks finds a vector or leads.
    fn is_free(&self, key: CacheKey) {
        assert!(!matches!(self.join(key), Joined::Follower(_)), "a flight without an end");
    }
}

fn complete(world: &World, ticket: Ticket) {
    let number = world.begun.fetch_add(1, Ordering::SeqCst);
    ticket.complete(Ok(obtained(number)));
}

/// As the proxy does: what nobody waits for is not computed, unless it is nearly done.
fn complete_or_give_up(world: &World, ticket: Ticket) {
    let number = world.begun.fetch_add(1, Ordering::SeqCst);
    if ticket.is_abandoned() && one_of(2) == 0 {
        return drop(ticket);
    }
    ticket.complete(Ok(obtained(number)));
}

fn wait(asked: Result<usize, Waiter>) -> Result<usize, MissError> {
    asked.or_else(|mut waiter| block_on(waiter.outcome()).map(|obtained| value(&obtained.vector)))
}

#[test]
fn a_key_that_many_ask_for_is_computed_once_and_all_see_that_vector() {
    explore(SCHEDULES, || {
        let world = World::new();
        let asking: [_; 3] = array::from_fn(|_| {
            let world = world.clone();
            thread::spawn(move || wait(world.ask(key(1), complete)))
        });
        let seen = asking.map(|thread| thread.join().unwrap());
        assert_eq!(seen, [Ok(0), Ok(0), Ok(0)]);
        assert_eq!(world.begun.load(Ordering::SeqCst), 1);
        world.is_free(key(1));
    });
}

#[test]
fn whoever_leaves_whenever_it_leaves_strands_nobody_and_all_who_stay_see_one_vector() {
    explore(SCHEDULES, || {
        let world = World::new();
        let leaving: [_; 2] = array::from_fn(|_| {
            let world = world.clone();
            thread::spawn(move || drop(world.ask(key(1), complete_or_give_up)))
        });
        let staying: [_; 2] = array::from_fn(|_| {
            let world = world.clone();
            thread::spawn(move || wait(world.ask(key(1), complete_or_give_up)))
        });
        leaving.into_iter().for_each(|thread| thread.join().unwrap());
        let [one, other] = staying.map(|thread| thread.join().unwrap().expect("nobody gives a flight up"));
        assert_eq!(one, other, "two vectors of one key");
        // Each further one stands for a flight that its last waiter left.
        assert!(world.begun.load(Ordering::SeqCst) <= 3);
        world.is_free(key(1));
    });
}

#[test]
fn a_ticket_that_is_dropped_leaves_no_waiter_and_no_flight_behind() {
    explore(SCHEDULES, || {
        let world = World::new();
        let asking: [_; 3] = array::from_fn(|_| {
            let world = world.clone();
            thread::spawn(move || wait(world.ask(key(1), |_, ticket| drop(ticket))))
        });
        for thread in asking {
            assert_eq!(thread.join().unwrap(), Err(MissError::GivenUp));
        }
        world.is_free(key(1));
    });
}

#[test]
fn the_computation_hears_of_it_when_the_last_waiter_leaves_and_not_before() {
    explore(SCHEDULES, || {
        let world = World::new();
        let left = Arc::new(AtomicUsize::new(0));
        let Joined::Leader(leader, ticket) = world.join(key(1)) else { panic!("somebody was before") };
        let Joined::Follower(follower) = world.join(key(1)) else { panic!("nobody leads") };
        let leaving = [leader, follower].map(|waiter| {
            let left = left.clone();
            thread::spawn(move || {
                left.fetch_add(1, Ordering::SeqCst);
                drop(waiter);
            })
        });
        block_on(ticket.abandoned());
        assert_eq!(left.load(Ordering::SeqCst), 2);
        assert!(matches!(world.join(key(1)), Joined::Leader(..)), "the key is free at once");
        leaving.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A flight may outlive a clear, and whoever waits for it sees its vector; the cache does not.
#[test]
fn nothing_that_was_computed_before_a_clear_is_found_after_it() {
    explore(SCHEDULES, || {
        let world = World::new();
        // What a computation gives: another number after the clear was called for.
        let truth = Arc::new(AtomicUsize::new(1));
        let asking: [_; 2] = array::from_fn(|_| {
            let (world, truth) = (world.clone(), truth.clone());
            thread::spawn(move || match world.join(key(1)) {
                Joined::Leader(_waiter, ticket) => {
                    ticket.complete(Ok(obtained(truth.load(Ordering::SeqCst))));
                }
                Joined::Follower(waiter) => drop(wait(Err(waiter))),
                Joined::Found(_) => {}
            })
        });
        let (cleared, renewed) = (world.clone(), truth.clone());
        let clearing = thread::spawn(move || {
            renewed.store(2, Ordering::SeqCst);
            cleared.l1.clear();
            assert!(!finds(&cleared, 1), "from before the clear");
        });
        asking.into_iter().chain([clearing]).for_each(|thread| thread.join().unwrap());
        assert!(!finds(&world, 1), "from before the clear");
    });
}

fn finds(world: &World, wanted: usize) -> bool {
    match world.join(key(1)) {
        Joined::Found(vector) => value(&vector) == wanted,
        Joined::Leader(..) | Joined::Follower(_) => false,
    }
}

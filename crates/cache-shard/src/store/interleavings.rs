//! The store with all turns that its threads may take, thousands of them drawn, on a disk in memory.

#[expect(dead_code, unreachable_pub, reason = "it is for other tests, too")]
#[path = "../../tests/shard/stock.rs"]
mod stock;

use std::{path::Path, sync::Arc, time::Duration};

use interleaving::{
    explore, one_of,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    Budget, Durability, Key, NewRecord, Options, Precision, PutOutcome, Store, Vector,
    index::ENTRY_BYTES_MAX, segment::HEADER_BYTES, simulated::SimFs,
};
use stock::{ANSWER_BYTES_MAX, TestClock};

const SCHEDULES: u64 = 4_000;
const SPACE: &str = "n";

/// Keys of one fingerprint by pairs: the first nine bytes are what the index finds an entry by.
fn key(number: u16) -> Key {
    let mut key = [0; 32];
    key[0] = (number / 2).to_le_bytes()[0];
    key[31] = number.to_le_bytes()[0];
    Key(key)
}

fn record(number: u16) -> NewRecord {
    NewRecord { key: key(number), vector: stock::vector(number, Precision::Float32), ttl: None }
}

/// A store of at most `entries_max` entries, in segments of a record or two.
fn store(disk: &SimFs, entries_max: usize, durability: Durability) -> Store {
    let budget = Budget {
        entries_max,
        bytes_max: 1 << 16,
        segment_bytes_max: HEADER_BYTES as u64 + 450,
        index_bytes_max: 1000 * ENTRY_BYTES_MAX,
    };
    let vfs = Arc::new(disk.clone());
    let options = stock::options(Path::new(""), &TestClock::new());
    Store::open(Options { vfs, budget, durability, ..options }).unwrap()
}

/// Asks for one key.
fn get(store: &Store, number: u16) -> Option<Vector> {
    let found = store.get_many(SPACE, &[key(number)], ANSWER_BYTES_MAX);
    found.hits.into_iter().next().flatten().map(|hit| hit.vector)
}

/// True for a hit with the vector of this key.
///
/// # Panics
/// For that of another.
fn is_right_or_missing(store: &Store, number: u16) -> bool {
    let found = get(store, number);
    if let Some(found) = &found {
        assert_eq!(
            *found,
            stock::vector(number, Precision::Float32),
            "the vector of another key than {number}"
        );
    }
    found.is_some()
}

fn put(store: &Store, number: u16) -> PutOutcome {
    store.put_many(SPACE, &[record(number)], None).outcomes.remove(0)
}

fn remove(store: &Store, numbers: &[u16]) {
    let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
    store.remove_many(SPACE, &keys).unwrap();
}

/// Each segment knows how much of it the index leads to, and the index leads to no segment that is gone.
fn is_consistent(store: &Store) {
    let state = store.read_state();
    let live: u64 = state.segments.values().map(|segment| segment.live().0).sum();
    assert_eq!(live, state.usage().entries as u64);
}

fn all(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn with(store: &Arc<Store>, work: impl FnOnce(&Store) + Send + 'static) -> thread::JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || work(&store))
}

#[test]
fn a_reader_beside_eviction_removal_and_clear_never_gets_the_vector_of_another_key() {
    explore(SCHEDULES, || {
        let store = Arc::new(store(&SimFs::default(), 3, Durability::Os));
        (0..4).for_each(|number| drop(put(&store, number)));
        let reading = with(&store, |store| {
            for _ in 0..4 {
                is_right_or_missing(store, one_of(8));
            }
        });
        let writing = with(&store, |store| (4..8).for_each(|number| drop(put(store, number))));
        let removing = with(&store, |store| {
            remove(store, &[one_of(8)]);
            if one_of(2) == 0 {
                store.clear(SPACE).unwrap();
            }
        });
        all([reading, writing, removing]);
        is_consistent(&store);
        assert!(store.stats().entries <= 3);
        for number in 0..8 {
            is_right_or_missing(&store, number);
        }
    });
}

#[test]
fn what_is_moved_is_found_at_every_moment() {
    explore(SCHEDULES, || {
        let store = Arc::new(store(&SimFs::default(), 100, Durability::Os));
        // Even numbers: no two of one fingerprint.
        (0..6).for_each(|number| assert_eq!(put(&store, 2 * number), PutOutcome::Accepted));
        // Of each segment one record of two, so that the keeper moves what is left.
        remove(&store, &[0, 4, 8]);
        let keeping = with(&store, |store| (0..3).for_each(|_| store.keep()));
        let reading = || {
            with(&store, |store| {
                (0..3).for_each(|number| {
                    assert!(is_right_or_missing(store, 4 * number + 2), "{number} is lost")
                });
            })
        };
        all([keeping, reading(), reading()]);
        is_consistent(&store);
        assert!(store.stats().moved > 0);
    });
}

#[test]
fn nothing_of_before_a_clear_is_found_after_it() {
    explore(SCHEDULES, || {
        let disk = SimFs::default();
        let store = Arc::new(store(&disk, 100, Durability::Os));
        // What a computation gives: another number after the clear was called for.
        let truth = Arc::new(AtomicUsize::new(1));
        let known = truth.clone();
        let computing = with(&store, move |store| {
            let seen = store.generation(SPACE);
            let number = u16::try_from(known.load(Ordering::SeqCst)).unwrap();
            let record = NewRecord { key: key(0), ..record(number) };
            store.put_many(SPACE, &[record], Some(seen));
        });
        let clearing = with(&store, move |store| {
            truth.store(2, Ordering::SeqCst);
            store.clear(SPACE).unwrap();
            is_of_after_the_clear(store);
        });
        let removing = with(&store, |store| remove(store, &[1]));
        all([computing, clearing, removing]);
        is_of_after_the_clear(&store);
        is_consistent(&store);
        drop(store);
        is_of_after_the_clear(&self::store(&disk, 100, Durability::Os));
    });
}

fn is_of_after_the_clear(store: &Store) {
    assert!(get(store, 0).is_none_or(|found| found.tokens == 2), "from before the clear");
}

#[test]
fn what_is_removed_is_gone_and_stays_so_whatever_is_moved_meanwhile() {
    explore(SCHEDULES, || {
        let disk = SimFs::default();
        let store = Arc::new(store(&disk, 100, Durability::Os));
        (0..4).for_each(|number| drop(put(&store, 2 * number)));
        remove(&store, &[0, 4]);
        let keeping = with(&store, |store| (0..2).for_each(|_| store.keep()));
        let removing = with(&store, |store| {
            remove(store, &[2]);
            assert!(get(store, 2).is_none(), "removed");
        });
        let reading = with(&store, |store| (0..2).for_each(|_| assert!(is_right_or_missing(store, 6))));
        all([keeping, removing, reading]);
        is_consistent(&store);
        drop(store);
        let store = self::store(&disk, 100, Durability::Os);
        assert!(get(&store, 2).is_none() && is_right_or_missing(&store, 6));
    });
}

#[test]
fn what_writers_that_share_an_fsync_were_told_survives_a_power_cut() {
    explore(SCHEDULES, || {
        let disk = SimFs::default();
        let store = Arc::new(store(&disk, 100, Durability::Always));
        disk.cut_power_after(disk.operations() + u64::from(one_of(24)));
        let accepted: Arc<[AtomicUsize; 6]> = Arc::default();
        let writing = [0, 1, 2].map(|writer| {
            let accepted = accepted.clone();
            with(&store, move |store| {
                for index in [writer, writer + 3] {
                    let outcome = put(store, 2 * index);
                    accepted[usize::from(index)]
                        .store(usize::from(outcome == PutOutcome::Accepted), Ordering::SeqCst);
                }
            })
        });
        all(writing);
        drop(store);
        disk.reboot(one_of(1000).into());
        let store = self::store(&disk, 100, Durability::Always);
        for (index, accepted) in (0..).zip(&*accepted) {
            let is_there = is_right_or_missing(&store, 2 * index);
            assert!(is_there || accepted.load(Ordering::SeqCst) == 0, "{index} was accepted and is lost");
        }
    });
}

#[test]
fn a_reader_that_meets_an_expired_record_does_not_forget_the_one_that_follows_it() {
    explore(SCHEDULES, || {
        let clock = TestClock::new();
        let options = stock::options(Path::new(""), &clock);
        let store = Arc::new(Store::open(Options { vfs: Arc::new(SimFs::default()), ..options }).unwrap());
        put(&store, 0);
        clock.set(1_000_000 + 60_000);
        let reading = || with(&store, |store| drop(get(store, 0)));
        let writing = with(&store, |store| assert_eq!(put(store, 0), PutOutcome::Accepted));
        all([reading(), reading(), writing]);
        assert!(is_right_or_missing(&store, 0), "forgotten");
        is_consistent(&store);
    });
}

#[test]
fn times_to_live_that_are_prolonged_lose_nothing() {
    explore(SCHEDULES, || {
        let clock = TestClock::new();
        let disk = SimFs::default();
        let options = stock::options(Path::new(""), &clock);
        let options = Options {
            vfs: Arc::new(disk),
            ttl_mode: super::TtlMode::Sliding,
            default_ttl: Duration::from_millis(1000),
            ..options
        };
        let store = Arc::new(Store::open(options).unwrap());
        (0..2).for_each(|number| drop(put(&store, 2 * number)));
        clock.set(1_000_600);
        assert!(is_right_or_missing(&store, 0));
        let keeping = with(&store, |store| (0..2).for_each(|_| store.keep()));
        let reading = with(&store, |store| (0..3).for_each(|_| assert!(is_right_or_missing(store, 0))));
        let removing = with(&store, |store| remove(store, &[2]));
        all([keeping, reading, removing]);
        clock.set(1_001_200);
        assert!(is_right_or_missing(&store, 0) && !is_right_or_missing(&store, 2));
        is_consistent(&store);
    });
}

//! L1 alone.

use std::{array, sync::Arc};

use interleaving::{
    explore, one_of,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tokio::time::Instant;

use super::{TTL, key, value, vector};
use crate::lookup::l1::{L1, Size, admission::Admission};

const SCHEDULES: u64 = 10_000;
/// One shard of two small vectors.
const ENTRIES_MAX: usize = 2;
const BYTES_MAX: usize = 700;

fn insert(l1: &L1, number: u8, value: usize, width: usize) -> usize {
    let seen = l1.insert(key(number), vector(value, width), TTL, Instant::now(), l1.generation());
    super::value(&seen)
}

fn get(l1: &L1, number: u8) -> Option<usize> {
    l1.get(&key(number), Instant::now()).map(|vector| value(&vector))
}

fn is_within_bounds(l1: &L1) {
    let size = l1.size();
    assert!(size.entries <= ENTRIES_MAX && size.bytes <= BYTES_MAX, "{size:?}");
    assert_eq!(size.entries == 0, size.bytes == 0, "{size:?}");
}

#[test]
fn the_bounds_hold_at_every_moment_and_no_key_gets_the_vector_of_another() {
    explore(SCHEDULES, || {
        let admission = [Admission::Lru, Admission::Adaptive][usize::from(one_of(2))];
        let l1 = Arc::new(L1::new(ENTRIES_MAX, BYTES_MAX).admitting(admission));
        let writers: [_; 2] = array::from_fn(|_| {
            let l1 = l1.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    let number = [1, 2, 3, 4][usize::from(one_of(4))];
                    let width = 1 + 20 * usize::from(one_of(4));
                    assert_eq!(insert(&l1, number, number.into(), width), usize::from(number));
                    assert!(get(&l1, number).is_none_or(|found| found == usize::from(number)));
                    is_within_bounds(&l1);
                }
            })
        });
        let watched = l1.clone();
        let watcher = thread::spawn(move || {
            is_within_bounds(&watched);
            watched.clear();
            is_within_bounds(&watched);
        });
        writers.into_iter().chain([watcher]).for_each(|thread| thread.join().unwrap());
        l1.clear();
        assert_eq!(l1.size(), Size::default());
    });
}

#[test]
fn the_first_write_of_a_key_is_what_everybody_sees() {
    explore(SCHEDULES, || {
        let l1 = Arc::new(L1::new(10, 1 << 20));
        let threads: [_; 3] = array::from_fn(|index| {
            let l1 = l1.clone();
            thread::spawn(move || {
                let found = get(&l1, 1);
                let seen = insert(&l1, 1, index, 4);
                assert!(found.is_none_or(|found| found == seen));
                seen
            })
        });
        let seen = threads.map(|thread| thread.join().unwrap());
        assert_eq!(seen, [get(&l1, 1).unwrap(); 3]);
    });
}

/// Two shards, which a clear empties one after the other.
#[test]
fn nothing_of_before_a_clear_is_found_after_it() {
    explore(SCHEDULES, || {
        let l1 = Arc::new(L1::new(128, 2 << 20));
        // What a computation gives: another number after the clear was called for.
        let truth = Arc::new(AtomicUsize::new(1));
        let computing: [_; 2] = array::from_fn(|index| {
            let (l1, truth, number) = (l1.clone(), truth.clone(), u8::try_from(index).unwrap());
            thread::spawn(move || {
                let generation = l1.generation();
                let computed = truth.load(Ordering::SeqCst);
                l1.insert(key(number), vector(computed, 4), TTL, Instant::now(), generation);
            })
        });
        let (cleared, renewed) = (l1.clone(), truth.clone());
        let clearing = thread::spawn(move || {
            renewed.store(2, Ordering::SeqCst);
            cleared.clear();
            (0..2).for_each(|number| assert_ne!(get(&cleared, number), Some(1), "from before the clear"));
        });
        computing.into_iter().chain([clearing]).for_each(|thread| thread.join().unwrap());
        (0..2).for_each(|number| assert_ne!(get(&l1, number), Some(1), "from before the clear"));
    });
}

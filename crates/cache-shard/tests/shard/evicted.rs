//! What goes, what stays, and what is written for it.

use std::{sync::Arc, time::Duration};

use cache_shard::store::{
    Budget, Durability, Key, NewRecord, Options, Precision, PutOutcome, Stats, Store, TtlMode,
};

use crate::{
    simulated::SimFs,
    stock::{ANSWER_BYTES_MAX, TestClock, budget, get, is_right_or_missing, key, options, record, vector},
};

const START_MS: u64 = 1_000_000;
/// Of a record of these tests, with its contents.
const RECORD_BYTES: u64 = 131 + 1 + 64 + 42;

fn on(disk: &SimFs, clock: &TestClock, budget: Budget) -> Options {
    Options { vfs: Arc::new(disk.clone()), budget, ..options(std::path::Path::new(""), clock) }
}

fn put(store: &Store, numbers: impl IntoIterator<Item = u16>) {
    for number in numbers {
        assert_eq!(store.put_many("n", &[record(number)], None).outcomes, [PutOutcome::Accepted]);
    }
}

fn with_ttl(number: u16, seconds: u64) -> NewRecord {
    NewRecord { ttl: Some(Duration::from_secs(seconds)), ..record(number) }
}

#[test]
fn what_is_asked_for_stays_and_a_scan_goes_first() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let store = Store::open(on(&disk, &clock, budget(160, 1 << 20))).unwrap();
    put(&store, 0..20);
    for scanned in 100..2_000 {
        put(&store, [scanned]);
        // Asked for now and then, by few.
        assert!(
            scanned % 10 > 0 || (0..20).all(|number| is_right_or_missing(&store, "n", number)),
            "{scanned}"
        );
    }
    let stats = store.stats();
    assert!(stats.evicted > 1_500 && stats.moved > 0 && stats.entries <= 160, "{stats:?}");
}

#[test]
fn what_is_moved_is_at_most_a_third_of_what_is_put_even_if_all_is_asked_for() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let store = Store::open(on(&disk, &clock, budget(10_000, 640 * RECORD_BYTES))).unwrap();
    for number in 0..6_000 {
        put(&store, [number]);
        (number.saturating_sub(600)..=number).for_each(|number| drop(get(&store, "n", number)));
    }
    let Stats { put_bytes, written_bytes, moved, .. } = store.stats();
    let amplification = written_bytes as f64 / put_bytes as f64;
    // A third, and what headers and contents take beside these small vectors.
    assert!(moved > 500 && amplification < 1.34 * 1.3, "{amplification} {moved}");
}

#[test]
fn a_segment_that_has_expired_goes_whole_and_others_stay() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let store = Store::open(on(&disk, &clock, budget(10_000, 1 << 20))).unwrap();
    let records = [with_ttl(1, 60), with_ttl(2, 7_200), with_ttl(3, 86_400), with_ttl(4, 60)];
    store.put_many("n", &records, None);
    assert_eq!(store.stats().segments, 3);
    clock.set(START_MS + 60_000);
    store.keep();
    let Stats { segments, expired, moved, .. } = store.stats();
    assert_eq!((segments, expired, moved), (2, 2, 0));
    assert!(get(&store, "n", 1).is_none() && get(&store, "n", 2).is_some() && get(&store, "n", 3).is_some());
}

#[test]
fn removed_records_give_their_space_back() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let store = Store::open(on(&disk, &clock, budget(10_000, 1 << 20))).unwrap();
    put(&store, 0..200);
    let before = store.stats().bytes;
    let keys: Vec<Key> = (0..190).map(key).collect();
    assert_eq!(store.remove_many("n", &keys).unwrap(), 190);
    store.keep();
    let after = store.stats();
    // Also the removals are gone, since nothing is left that they remove.
    assert!(after.bytes < before / 8 && after.moved == 10 && after.entries == 10, "{after:?}");
    assert!((190..200).all(|number| is_right_or_missing(&store, "n", number)));
    drop(store);
    let store = Store::open(on(&disk, &clock, budget(10_000, 1 << 20))).unwrap();
    assert_eq!(store.stats().entries, 10);
    assert!((190..200).all(|number| is_right_or_missing(&store, "n", number)));
}

#[test]
fn what_was_removed_does_not_come_back_when_younger_segments_go_first() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 20));
    let store = Store::open(options.clone()).unwrap();
    store.put_many("n", &[with_ttl(1, 86_400), with_ttl(2, 86_400), with_ttl(3, 86_400)], None);
    store.remove_many("n", &[key(1)]).unwrap();
    put(&store, [4]);
    // The segment that was written last expires first.
    clock.set(START_MS + 60_000);
    store.keep();
    drop(store);
    let store = Store::open(options).unwrap();
    assert!(get(&store, "n", 1).is_none() && get(&store, "n", 2).is_some());
}

#[test]
fn what_was_replaced_does_not_come_back_after_a_removal_that_found_nothing() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 20));
    let store = Store::open(options.clone()).unwrap();
    let low = NewRecord { vector: vector(1, Precision::Int8), ..with_ttl(1, 86_400) };
    // Not alone, so that its segment stays.
    store.put_many("n", &[low, with_ttl(2, 86_400), with_ttl(3, 86_400)], None);
    put(&store, [1]);
    // The higher class had less time to live.
    clock.set(START_MS + 60_000);
    assert!(get(&store, "n", 1).is_none());
    assert_eq!(store.remove_many("n", &[key(1)]).unwrap(), 0);
    store.keep();
    drop(store);
    assert!(get(&Store::open(options).unwrap(), "n", 1).is_none());
}

#[test]
fn what_could_not_be_read_when_it_was_removed_does_not_come_back() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 20));
    let store = Store::open(options.clone()).unwrap();
    put(&store, 1..4);
    let name = "0000000000.seg";
    disk.edit(name, |file| file[100] ^= 1);
    assert!(get(&store, "n", 1).is_none());
    assert_eq!(store.remove_many("n", &[key(1)]).unwrap(), 0);
    // A block that a disk reads again.
    disk.edit(name, |file| file[100] ^= 1);
    drop(store);
    let store = Store::open(options).unwrap();
    assert!(get(&store, "n", 1).is_none() && get(&store, "n", 2).is_some());
}

#[test]
fn a_cleared_namespace_gives_its_space_back() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let store = Store::open(on(&disk, &clock, budget(10_000, 1 << 20))).unwrap();
    put(&store, 0..100);
    store.put_many("m", &[record(1)], None);
    store.clear("n").unwrap();
    store.keep();
    let stats = store.stats();
    assert!(stats.bytes < 1_000 && stats.entries == 1, "{stats:?}");
    assert!(is_right_or_missing(&store, "m", 1));
}

#[test]
fn a_start_reads_contents_and_not_vectors() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 22));
    let store = Store::open(options.clone()).unwrap();
    put(&store, 0..5_000);
    store.close();
    drop(store);
    let read_before = disk.read_bytes();
    let store = Store::open(options).unwrap();
    let read = disk.read_bytes() - read_before;
    assert_eq!(store.stats().entries, 5_000);
    assert!(read < 5_000 * 50, "{read}");
    assert!((0..5_000).all(|number| is_right_or_missing(&store, "n", number)));
}

#[test]
fn contents_that_are_damaged_or_gone_cost_a_scan_and_nothing_else() {
    for damage in ["flip", "cut", "gone", "another's"] {
        let (disk, clock) = (SimFs::default(), TestClock::new());
        let options = on(&disk, &clock, budget(10_000, 1 << 22));
        let store = Store::open(options.clone()).unwrap();
        put(&store, 0..50);
        store.put_many("n", &[with_ttl(50, 86_400)], None);
        store.close();
        drop(store);
        let name = "0000000000.contents";
        match damage {
            "flip" => disk.edit(name, |file| file[60] ^= 1),
            "cut" => disk.edit(name, |file| file.truncate(100)),
            "gone" => disk.edit(name, Vec::clear),
            _ => {
                let other = disk.contents("0000000001.contents");
                disk.edit(name, |file| *file = other);
            }
        }
        let store = Store::open(options).unwrap();
        assert_eq!(store.stats().entries, 51, "{damage}");
        assert!((0..51).all(|number| is_right_or_missing(&store, "n", number)), "{damage}");
    }
}

#[test]
fn every_byte_flipped_in_a_segment_whose_contents_are_right_costs_its_own_record() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 22));
    let store = Store::open(options.clone()).unwrap();
    put(&store, 0..5);
    store.close();
    drop(store);
    let (name, start) = ("0000000000.seg", 32);
    for index in start..disk.contents(name).len() {
        disk.edit(name, |file| file[index] ^= 0x40);
        let store = Store::open(options.clone()).unwrap();
        let there = (0..5).filter(|number| is_right_or_missing(&store, "n", *number)).count();
        assert_eq!((there, store.stats().damaged_records), (4, 1), "byte {index}");
        drop(store);
        disk.edit(name, |file| file[index] ^= 0x40);
    }
}

#[test]
fn a_time_to_live_that_slides_begins_anew_with_a_hit_in_its_second_half() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = Options { ttl_mode: TtlMode::Sliding, ..on(&disk, &clock, budget(10_000, 1 << 20)) };
    let store = Store::open(options.clone()).unwrap();
    put(&store, [1, 2]);
    let at = |seconds: u64| clock.set(START_MS + seconds * 1_000);
    for seconds in [20, 40, 80, 120, 160] {
        at(seconds);
        assert!(is_right_or_missing(&store, "n", 1), "{seconds}");
        store.keep();
    }
    assert!(get(&store, "n", 2).is_none(), "nobody asked for it");
    drop(store);
    let store = Store::open(options).unwrap();
    let found = store.get_many("n", &[key(1)], ANSWER_BYTES_MAX);
    let hit = found.hits[0].as_ref().unwrap();
    assert_eq!(
        (hit.created_ms, hit.remaining, hit.ttl),
        (START_MS, Duration::from_secs(60), Duration::from_secs(60))
    );
}

#[test]
fn records_that_came_together_go_one_after_another_and_none_too_late() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = Options { ttl_jitter_percent: 10, ..on(&disk, &clock, budget(10_000, 1 << 22)) };
    let store = Store::open(options).unwrap();
    let numbers: Vec<u16> = (0..1_000).map(|number| number * 65).collect();
    put(&store, numbers.iter().copied());
    let there = |seconds: u64| {
        clock.set(START_MS + seconds * 1_000);
        numbers.iter().filter(|number| get(&store, "n", **number).is_some()).count()
    };
    let counts = [there(53), there(55), there(57), there(59), there(60)];
    assert_eq!((counts[0], counts[4]), (1_000, 0));
    assert!(counts.windows(2).all(|pair| pair[0] > pair[1] + 50), "{counts:?}");
}

#[test]
fn the_memory_of_the_index_is_bounded() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let small = Budget { index_bytes_max: 64 * 500, ..budget(10_000, 1 << 22) };
    let store = Store::open(on(&disk, &clock, small)).unwrap();
    put(&store, 0..2_000);
    let stats = store.stats();
    assert!((400..=500).contains(&stats.entries) && stats.evicted >= 1_500, "{stats:?}");
}

#[test]
fn writers_that_come_together_are_each_on_the_disk_when_they_are_answered() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = Options { durability: Durability::Always, ..on(&disk, &clock, budget(10_000, 1 << 22)) };
    let store = Store::open(options.clone()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || put(store, writer * 100..writer * 100 + 50));
        }
    });
    drop(store);
    disk.reboot(7);
    let store = Store::open(options).unwrap();
    for writer in 0..8_u16 {
        assert!((0..50).all(|number| is_right_or_missing(&store, "n", writer * 100 + number)));
    }
}

#[test]
fn a_higher_class_takes_the_place_of_a_lower_one_in_another_segment() {
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = on(&disk, &clock, budget(10_000, 1 << 20));
    let store = Store::open(options.clone()).unwrap();
    let low = NewRecord { vector: vector(1, Precision::Int8), ..with_ttl(1, 86_400) };
    assert_eq!(store.put_many("n", &[low], None).outcomes, [PutOutcome::Accepted]);
    put(&store, [1]);
    assert_eq!(get(&store, "n", 1), Some(vector(1, Precision::Float32)));
    drop(store);
    // Whatever the order of their segments.
    assert_eq!(get(&Store::open(options).unwrap(), "n", 1), Some(vector(1, Precision::Float32)));
}

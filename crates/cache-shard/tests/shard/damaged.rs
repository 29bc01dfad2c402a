//! Whatever lies in the directory: the store starts, and what it answers is right or missing.

use std::{fs, os::unix::fs::symlink};

use cache_shard::store::{Budget, OpenError, Options, Store};

use crate::stock::{
    TestClock, budget, get, is_right_or_missing, key, open, options, record, segment_of, stocked,
};

const RECORDS: u16 = 5;

/// How many of the records are still there.
fn survivors(store: &Store) -> u16 {
    (0..RECORDS).map(|number| u16::from(is_right_or_missing(store, "n", number))).sum()
}

#[test]
fn every_flipped_byte_of_a_segment_costs_at_most_its_own_record() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stocked(directory.path(), RECORDS);
    let record_bytes = (whole.len() - 32) / usize::from(RECORDS);
    for index in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[index] ^= 0x40;
        fs::write(segment_of(directory.path()), &flipped).unwrap();
        let store = open(directory.path());
        let expected = if index < 32 { 0 } else { RECORDS - 1 };
        assert_eq!(survivors(&store), expected, "byte {index} of records of {record_bytes} bytes");
        assert_eq!(store.stats().damaged_records + store.stats().damaged_segments, 1, "byte {index}");
        // What was lost can be put again, and is there after a restart.
        (0..RECORDS).for_each(|number| drop(store.put_many("n", &[record(number)], None)));
        assert_eq!(survivors(&store), RECORDS, "byte {index}");
        drop(store);
        assert_eq!(survivors(&open(directory.path())), RECORDS, "byte {index}");
        clean(directory.path());
    }
}

/// Leaves the generations and the first segment's place.
fn clean(directory: &std::path::Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().contains(".seg") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn every_byte_flipped_under_an_open_store_costs_at_most_its_own_record() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stocked(directory.path(), RECORDS);
    for index in 0..whole.len() {
        let store = open(directory.path());
        let mut flipped = whole.to_vec();
        flipped[index] ^= 0x01;
        fs::write(segment_of(directory.path()), &flipped).unwrap();
        // The header was read when the store was opened.
        let lost = u16::from(index >= 32);
        assert_eq!(survivors(&store), RECORDS - lost, "byte {index}");
        assert_eq!(store.stats().damaged_records, u64::from(lost), "byte {index}");
        assert_eq!(survivors(&store), RECORDS - lost, "byte {index}");
        fs::write(segment_of(directory.path()), &whole).unwrap();
    }
}

#[test]
fn a_segment_cut_at_any_length_keeps_every_whole_record() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stocked(directory.path(), RECORDS);
    let record_bytes = (whole.len() - 32) / usize::from(RECORDS);
    for length in 0..whole.len() {
        fs::write(segment_of(directory.path()), &whole[..length]).unwrap();
        let store = open(directory.path());
        let expected = length.saturating_sub(32) / record_bytes;
        assert_eq!(usize::from(survivors(&store)), expected, "length {length}");
        store.put_many("n", &[record(100)], None);
        drop(store);
        let store = open(directory.path());
        assert!(is_right_or_missing(&store, "n", 100), "length {length}");
        assert_eq!(usize::from(survivors(&store)), expected, "length {length}");
        drop(store);
        clean(directory.path());
    }
}

#[test]
fn garbage_of_every_kind_is_set_aside_or_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    stocked(path, RECORDS);
    fs::write(path.join("0000000001.seg"), [0xa5; 5000]).unwrap();
    fs::write(path.join("0000000002.seg"), []).unwrap();
    fs::create_dir(path.join("0000000003.seg")).unwrap();
    symlink("/dev/zero", path.join("0000000004.seg")).unwrap();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    fs::write(path.join("generations.draft"), "half").unwrap();
    let store = open(path);
    assert_eq!((survivors(&store), store.stats().damaged_segments), (RECORDS, 4));
    assert!(path.join("0000000001.seg.damaged").exists() && path.join("notes.txt").exists());
    store.put_many("n", &[record(100)], None);
    assert!(is_right_or_missing(&store, "n", 100));
    drop(store);
    assert_eq!(open(path).stats().damaged_segments, 0);
}

#[test]
fn damaged_segments_that_are_kept_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..20 {
        fs::write(directory.path().join(format!("{number:010}.seg.damaged")), "x").unwrap();
    }
    drop(open(directory.path()));
    let kept = fs::read_dir(directory.path()).unwrap();
    let kept =
        kept.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with("damaged"));
    assert_eq!(kept.count(), 8);
}

#[test]
fn lost_generations_clear_everything_and_nothing_cleared_comes_back() {
    for damage in ["missing", "flipped", "a directory"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("generations");
        stocked(directory.path(), RECORDS);
        let before = open(directory.path()).generation("n");
        let mut bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        match damage {
            "flipped" => {
                bytes[30] ^= 1;
                fs::write(&path, &bytes).unwrap();
            }
            "a directory" => fs::create_dir(&path).unwrap(),
            _ => {}
        }
        let store = open(directory.path());
        assert_eq!(survivors(&store), 0, "{damage}");
        assert!(store.generation("n") > before, "{damage}");
        store.put_many("n", &[record(1)], None);
        drop(store);
        assert!(is_right_or_missing(&open(directory.path()), "n", 1), "{damage}");
    }
}

#[test]
fn a_cleared_namespace_stays_cleared_after_a_restart_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.put_many("n", &[record(1)], None);
    store.put_many("m", &[record(1)], None);
    let generation = store.clear("n").unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.generation("n"), generation);
    assert!(!is_right_or_missing(&store, "n", 1) && is_right_or_missing(&store, "m", 1));
}

#[test]
fn a_newer_format_refuses_the_start_and_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = stocked(directory.path(), 1).to_vec();
    bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(segment_of(directory.path()), &bytes).unwrap();
    let error = Store::open(options(directory.path(), &TestClock::new())).unwrap_err();
    assert!(error.to_string().contains("format version 7"), "{error}");
    assert!(matches!(error, OpenError::NewerVersion { version: 7, .. }));
}

#[test]
fn a_second_store_on_the_directory_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let error = Store::open(options(directory.path(), &TestClock::new())).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(first);
    open(directory.path());
}

#[test]
fn time_goes_on_from_the_latest_record_where_the_clock_went_back_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    clock.set(5_000_000);
    let store = Store::open(options(directory.path(), &clock)).unwrap();
    store.put_many("n", &[record(1)], None);
    drop(store);
    clock.set(1_000);
    let store = Store::open(options(directory.path(), &clock)).unwrap();
    let found = store.get_many("n", &[key(1)], 1 << 20);
    assert_eq!(found.hits[0].as_ref().unwrap().remaining.as_secs(), 60);
    clock.set(60_999);
    assert!(get(&store, "n", 1).is_some());
    clock.set(61_000);
    assert_eq!(get(&store, "n", 1), None);
}

#[test]
fn smaller_budgets_hold_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let budget = budget(160, 1 << 20);
    let store = Store::open(Options { budget, ..options(directory.path(), &clock) }).unwrap();
    (0..100).for_each(|number| drop(store.put_many("n", &[record(number)], None)));
    drop(store);
    let budget = Budget { entries_max: 32, ..budget };
    let store = Store::open(Options { budget, ..options(directory.path(), &clock) }).unwrap();
    let entries = store.stats().entries;
    assert!((1..=32).contains(&entries), "{entries}");
    assert!(is_right_or_missing(&store, "n", 99) && !is_right_or_missing(&store, "n", 0));
}

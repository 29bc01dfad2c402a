//! A disk that fails where a system tells of it late: at fsync, and at reads.

use std::sync::Arc;

use cache_shard::store::{NewRecord, Options, PutOutcome, Store};

use crate::stock::{Failing, TestClock, is_right_or_missing, open, options, record, segment_of};

const RECORDS: u16 = 5;

fn opened(directory: &std::path::Path) -> (Store, Failing) {
    let gate = Failing::new(directory);
    let options = Options { vfs: Arc::new(gate.clone()), ..options(directory, &TestClock::new()) };
    (Store::open(options).unwrap(), gate)
}

fn put(store: &Store, numbers: impl IntoIterator<Item = u16>) -> bool {
    let records: Vec<NewRecord> = numbers.into_iter().map(record).collect();
    let outcomes = store.put_many("n", &records, None).outcomes;
    outcomes.iter().all(|outcome| *outcome == PutOutcome::Accepted)
}

fn are_right(store: &Store, count: u16) -> bool {
    (0..count).all(|number| is_right_or_missing(store, "n", number))
}

#[test]
fn a_failed_fsync_is_told_and_what_was_accepted_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (store, gate) = opened(directory.path());
    assert!(put(&store, 0..RECORDS));
    gate.fail_sync();
    store.keep();
    let degraded = store.stats().degraded.unwrap();
    assert!(degraded.contains("cannot be synced") && degraded.contains("os error 5"), "{degraded}");
    assert!(are_right(&store, RECORDS));
    // A write that gets through says nothing about fsync, and does not go into the file that was not synced.
    assert!(put(&store, RECORDS..2 * RECORDS));
    assert_eq!((store.stats().degraded.is_some(), store.stats().segments), (true, 2));
    store.keep();
    assert!(store.stats().degraded.is_some() && are_right(&store, 2 * RECORDS));
    gate.mend();
    store.keep();
    assert_eq!(store.stats().degraded, None);
    drop(store);
    assert!(are_right(&open(directory.path()), 2 * RECORDS));
}

#[test]
fn a_clear_whose_fsync_fails_is_true_now_and_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let (store, gate) = opened(directory.path());
    assert!(put(&store, 0..RECORDS));
    gate.fail_sync();
    assert!(store.clear("n").is_err());
    assert!(!is_right_or_missing(&store, "n", 1) && store.stats().degraded.is_some());
    gate.mend();
    store.keep();
    assert_eq!(store.stats().degraded, None);
    drop(store);
    assert!(!is_right_or_missing(&open(directory.path()), "n", 1));
}

#[test]
fn a_record_that_cannot_be_read_is_a_miss_and_can_be_put_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, gate) = opened(directory.path());
    assert!(put(&store, 0..RECORDS));
    gate.fail_read(0..200);
    assert!(!is_right_or_missing(&store, "n", 0) && !is_right_or_missing(&store, "n", 0));
    assert!(is_right_or_missing(&store, "n", RECORDS - 1));
    assert_eq!(store.stats().damaged_records, 1);
    assert!(put(&store, [0]) && is_right_or_missing(&store, "n", 0));
}

#[test]
fn a_block_that_cannot_be_read_at_the_start_costs_the_records_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (store, gate) = opened(directory.path());
    let count = 400;
    assert!(put(&store, 0..count));
    drop(store);
    let bytes = std::fs::metadata(segment_of(directory.path())).unwrap().len();
    let record_bytes = (bytes - 32) / u64::from(count);
    gate.fail_read(8192..12_288);
    let options = Options { vfs: Arc::new(gate.clone()), ..options(directory.path(), &TestClock::new()) };
    let store = Store::open(options.clone()).unwrap();
    let lost = (0..count).filter(|number| !is_right_or_missing(&store, "n", *number)).count() as u64;
    let most = 4096 / record_bytes + 2;
    assert!((most - 2..=most).contains(&lost), "{lost} of records of {record_bytes} bytes");
    assert_eq!(store.stats().damaged_records, 1);
    drop(store);
    // A disk that reads nothing at all costs all, and the start waits for eight blocks of a segment only.
    gate.fail_read(32..u64::MAX);
    let store = Store::open(options).unwrap();
    assert_eq!(store.stats().entries, 0);
    assert!(put(&store, [0]));
    gate.mend();
    assert!(is_right_or_missing(&store, "n", 0));
}

#[test]
fn a_write_error_starts_another_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (store, gate) = opened(directory.path());
    assert!(put(&store, 0..RECORDS));
    gate.after(0, std::io::ErrorKind::Other);
    assert!(!put(&store, [RECORDS]));
    gate.mend();
    // The place that could not be written is not tried for ever.
    assert!(put(&store, [RECORDS]));
    assert_eq!(store.stats().segments, 2);
    assert!(are_right(&store, RECORDS + 1));
}

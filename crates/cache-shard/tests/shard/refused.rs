//! A disk that takes no more: what is there stays, what is new is refused with the reason.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, sync::Arc};

use cache_shard::store::{Options, Precision, PutError, PutOutcome, Store, TroubleKind};

use crate::stock::{Failing, TestClock, is_right_or_missing, key, open, options, record, stocked, vector};

fn trouble(outcome: &PutOutcome) -> Option<TroubleKind> {
    match outcome {
        PutOutcome::Refused(PutError::Disk(trouble)) => Some(trouble.kind),
        PutOutcome::Refused(_) | PutOutcome::Accepted | PutOutcome::Kept => None,
    }
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_record_loses_nothing_that_was_accepted() {
    let cases = [
        (ErrorKind::StorageFull, TroubleKind::Full),
        (ErrorKind::ReadOnlyFilesystem, TroubleKind::ReadOnly),
        (ErrorKind::Other, TroubleKind::Io),
    ];
    for (kind, expected) in cases {
        for bytes_left in [0, 1, 100, 210, 500, 1000] {
            let directory = tempfile::tempdir().unwrap();
            let gate = Failing::new(directory.path());
            let clock = TestClock::new();
            let options = Options { vfs: Arc::new(gate.clone()), ..options(directory.path(), &clock) };
            let store = Store::open(options).unwrap();
            store.put_many("n", &[record(0)], None);
            gate.after(bytes_left, kind);
            let records: Vec<_> = (1..20).map(record).collect();
            let outcomes = store.put_many("n", &records, None).outcomes;
            let accepted = outcomes.iter().filter(|outcome| **outcome == PutOutcome::Accepted).count();
            assert_eq!(trouble(outcomes.last().unwrap()), Some(expected), "{bytes_left}");
            assert!(accepted <= bytes_left / 100 && store.stats().degraded.is_some(), "{accepted}");
            let there =
                |store: &Store| (0..20).filter(|number| is_right_or_missing(store, "n", *number)).count();
            assert_eq!(there(&store), accepted + 1);
            gate.mend();
            assert_eq!(store.put_many("n", &[record(50)], None).outcomes, [PutOutcome::Accepted]);
            assert_eq!(store.stats().degraded, None);
            drop(store);
            let store = open(directory.path());
            assert_eq!((there(&store), store.stats().damaged_records), (accepted + 1, 0));
            assert!(is_right_or_missing(&store, "n", 50));
        }
    }
}

#[test]
fn a_store_that_cannot_be_written_from_the_start_serves_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    stocked(directory.path(), 3);
    let gate = Failing::new(directory.path());
    gate.after(0, ErrorKind::ReadOnlyFilesystem);
    let clock = TestClock::new();
    let store = Store::open(Options { vfs: Arc::new(gate), ..options(directory.path(), &clock) }).unwrap();
    assert!(store.stats().degraded.is_some());
    assert!((0..3).all(|number| is_right_or_missing(&store, "n", number)));
    let outcomes = store.put_many("n", &[record(9)], None).outcomes;
    assert_eq!(trouble(&outcomes[0]), Some(TroubleKind::ReadOnly));
}

#[test]
fn a_directory_without_the_right_to_write_serves_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    stocked(directory.path(), 3);
    let allow = |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let is_held_back = fs::write(directory.path().join("probe"), "").is_err();
    let store = open(directory.path());
    assert!((0..3).all(|number| is_right_or_missing(&store, "n", number)));
    // The superuser may write all the same; the start and the reads are checked for both.
    if is_held_back {
        assert!(store.stats().degraded.is_some());
        assert!(store.clear("n").is_err());
    }
    allow(0o755);
}

#[test]
fn a_clear_that_cannot_be_written_is_true_now_and_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Failing::new(directory.path());
    let clock = TestClock::new();
    let options = Options { vfs: Arc::new(gate.clone()), ..options(directory.path(), &clock) };
    let store = Store::open(options.clone()).unwrap();
    store.put_many("n", &[record(1), record(2)], None);
    gate.after(0, ErrorKind::StorageFull);
    assert!(store.remove_many("n", &[key(1)]).is_err());
    assert!(!is_right_or_missing(&store, "n", 1) && is_right_or_missing(&store, "n", 2));
    assert!(store.clear("n").is_err());
    assert!(!is_right_or_missing(&store, "n", 2));
    let generation = store.generation("n");
    gate.mend();
    store.keep();
    drop(store);
    let store = Store::open(options).unwrap();
    assert_eq!(store.generation("n"), generation);
    assert!(!is_right_or_missing(&store, "n", 1) && !is_right_or_missing(&store, "n", 2));
}

#[test]
fn a_clear_on_a_full_disk_makes_its_own_room() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Failing::new(directory.path());
    let clock = TestClock::new();
    let options = Options { vfs: Arc::new(gate.clone()), ..options(directory.path(), &clock) };
    let store = Store::open(options).unwrap();
    store.put_many("n", &[record(1)], None);
    gate.fail_write_once();
    let generation = store.clear("n").unwrap();
    assert_eq!((store.stats().segments, store.stats().degraded), (0, None));
    drop(store);
    assert_eq!(open(directory.path()).generation("n"), generation);
}

#[test]
fn what_is_invalid_is_refused_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut short = record(1);
    short.vector.width += 1;
    let outcomes = store.put_many("n", &[short, record(2)], None).outcomes;
    assert!(matches!(outcomes[0], PutOutcome::Refused(PutError::Invalid(_))), "{outcomes:?}");
    assert_eq!(outcomes[1], PutOutcome::Accepted);
    assert_eq!(store.stats().degraded, None);
}

#[test]
fn a_record_computed_before_a_clear_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let seen = store.generation("n");
    assert_eq!(store.put_many("n", &[record(1)], Some(seen)).outcomes, [PutOutcome::Accepted]);
    store.clear("n").unwrap();
    let outcomes = store.put_many("n", &[record(1)], Some(seen)).outcomes;
    assert!(matches!(outcomes[0], PutOutcome::Refused(PutError::Stale { .. })), "{outcomes:?}");
}

#[test]
fn two_records_of_one_key_in_one_call_follow_the_same_rule() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut low = record(1);
    low.vector = vector(1, Precision::Int8);
    let outcomes = store.put_many("n", &[low.clone(), record(1), low], None).outcomes;
    assert_eq!(outcomes, [PutOutcome::Accepted, PutOutcome::Accepted, PutOutcome::Kept]);
    assert!(is_right_or_missing(&store, "n", 1));
}

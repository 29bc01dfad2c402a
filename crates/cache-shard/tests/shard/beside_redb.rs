//! The same operations in a store and in redb, a database of others: both answer the same, bit for bit.
//!
//! `model.rs` knows what a store may answer when power goes and budgets are small. Here nothing is left to "may": there is
//! room for all, no more than the process is lost, and every vector, count and outcome has to be the one that redb knows.

use std::{path::Path, time::Duration};

use cache_shard::store::{Durability, NewRecord, Options, Precision, PutOutcome, Store, Vector};
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    model::{KEYS, NAMESPACES, Step, step},
    stock::{ANSWER_BYTES_MAX, TestClock, get, key, options, vector},
};

/// Namespace and number of the key ─▶ precision, moment at which it expires, numbers.
const TABLE: TableDefinition<'_, (u8, u16), (u8, u64, &[u8])> = TableDefinition::new("vectors");
const PRECISIONS: [Precision; 4] =
    [Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8];

/// What redb holds of one key.
struct Held {
    precision: Precision,
    expires_ms: u64,
    bytes: Vec<u8>,
}

struct Oracle(Database);

impl Oracle {
    fn open(directory: &Path) -> Self {
        Self(Database::create(directory.join("oracle.redb")).unwrap())
    }

    fn change(&self, work: impl FnOnce(&mut redb::Table<'_, (u8, u16), (u8, u64, &[u8])>)) {
        let mut transaction = self.0.begin_write().unwrap();
        // Handed to the system, as the store's are, and not to the disk.
        transaction.set_durability(redb::Durability::None).unwrap();
        work(&mut transaction.open_table(TABLE).unwrap());
        transaction.commit().unwrap();
    }

    fn put(&self, place: (u8, u16), vector: &Vector, expires_ms: u64) {
        let precision = PRECISIONS.iter().position(|precision| *precision == vector.precision).unwrap();
        let precision = u8::try_from(precision).unwrap();
        self.change(|table| {
            table.insert(place, (precision, expires_ms, &*vector.bytes)).unwrap();
        });
    }

    fn live(&self, place: (u8, u16), now_ms: u64) -> Option<Held> {
        let table = self.0.begin_read().unwrap().open_table(TABLE).ok()?;
        let held = table.get(place).unwrap()?;
        let (precision, expires_ms, bytes) = held.value();
        let held = Held { precision: PRECISIONS[usize::from(precision)], expires_ms, bytes: bytes.to_vec() };
        Some(held).filter(|held| held.expires_ms > now_ms)
    }

    fn remove(&self, place: (u8, u16)) {
        self.change(|table| {
            table.remove(place).unwrap();
        });
    }

    fn clear(&self, namespace: u8) {
        self.change(|table| table.retain_in((namespace, 0)..=(namespace, u16::MAX), |_, _| false).unwrap());
    }

    fn live_of_all(&self, now_ms: u64) -> usize {
        let Ok(table) = self.0.begin_read().unwrap().open_table(TABLE) else { return 0 };
        table.iter().unwrap().filter(|entry| entry.as_ref().unwrap().1.value().1 > now_ms).count()
    }
}

struct Pair {
    directory: tempfile::TempDir,
    options: Options,
    clock: TestClock,
    clock_ms: u64,
    /// The latest moment the clock has shown: time does not go back.
    now_ms: u64,
    /// Taken while they are opened again: both lock what they have open.
    open: Option<(Store, Oracle)>,
}

impl Pair {
    fn new(durability: Durability) -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
        let options = Options { durability, ..options(&directory.path().join("store"), &clock) };
        let mut pair = Self { directory, options, clock, clock_ms: 1_000_000, now_ms: 1_000_000, open: None };
        pair.reopen();
        pair
    }

    fn both(&self) -> (&Store, &Oracle) {
        let (store, oracle) = self.open.as_ref().unwrap();
        (store, oracle)
    }

    fn reopen(&mut self) {
        drop(self.open.take());
        // A clock that goes back while nobody looks is a test of its own.
        self.clock_ms = self.now_ms;
        self.clock.set(self.clock_ms);
        let store = Store::open(self.options.clone()).unwrap();
        self.open = Some((store, Oracle::open(self.directory.path())));
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put { namespace, number, precision, ttl_ms } => {
                self.put(namespace, number, precision, ttl_ms);
            }
            Step::Get { namespace } => self.compare(namespace),
            Step::Remove { namespace, number } => self.remove(namespace, number),
            Step::Clear { namespace } => {
                let (store, oracle) = self.both();
                store.clear(NAMESPACES[namespace]).unwrap();
                oracle.clear(index(namespace));
            }
            Step::Move { by_ms } => self.move_clock(by_ms),
            Step::Keep => self.both().0.keep(),
            Step::Reopen { is_closed } => {
                if is_closed {
                    self.both().0.close();
                }
                self.reopen();
            }
            Step::Cut { seed: _ } => self.reopen(),
        }
    }

    fn put(&self, namespace: usize, number: u16, precision: Precision, ttl_ms: u64) {
        let (store, oracle) = self.both();
        let (place, vector) = ((index(namespace), number), vector(number, precision));
        let new =
            NewRecord { key: key(number), vector: vector.clone(), ttl: Some(Duration::from_millis(ttl_ms)) };
        let before = oracle.live(place, self.now_ms);
        let makes_way = before.is_none_or(|before| before.precision.makes_way_for(precision));
        let answer = store.put_many(NAMESPACES[namespace], &[new], None);
        let expected = if makes_way { PutOutcome::Accepted } else { PutOutcome::Kept };
        assert_eq!(answer.outcomes, [expected]);
        if makes_way {
            oracle.put(place, &vector, self.now_ms + ttl_ms);
        }
    }

    fn remove(&self, namespace: usize, number: u16) {
        let (store, oracle) = self.both();
        let place = (index(namespace), number);
        let removed = store.remove_many(NAMESPACES[namespace], &[key(number)]).unwrap();
        assert_eq!(removed == 1, oracle.live(place, self.now_ms).is_some());
        oracle.remove(place);
    }

    fn move_clock(&mut self, by_ms: i64) {
        self.clock_ms = self.clock_ms.saturating_add_signed(by_ms);
        self.now_ms = self.now_ms.max(self.clock_ms);
        self.clock.set(self.clock_ms);
        // Only a moment that the store has seen counts.
        get(self.both().0, "", 0);
    }

    fn compare(&self, namespace: usize) {
        let (store, oracle) = self.both();
        let keys: Vec<_> = (0..KEYS).map(key).collect();
        let found = store.get_many(NAMESPACES[namespace], &keys, ANSWER_BYTES_MAX);
        for (number, hit) in (0..KEYS).zip(found.hits) {
            let held = oracle.live((index(namespace), number), self.now_ms);
            let found = hit.map(|hit| (hit.vector.precision, hit.remaining, hit.vector.bytes.to_vec()));
            let expected = held.map(|held| {
                (held.precision, Duration::from_millis(held.expires_ms - self.now_ms), held.bytes)
            });
            assert_eq!(found, expected, "{number} of {:?}", NAMESPACES[namespace]);
        }
    }

    fn compare_all(&self) {
        (0..NAMESPACES.len()).for_each(|namespace| self.compare(namespace));
        let (store, oracle) = self.both();
        assert!(store.stats().entries >= oracle.live_of_all(self.now_ms) as u64);
        assert_eq!(store.stats().evicted, 0);
    }
}

fn index(namespace: usize) -> u8 {
    u8::try_from(namespace).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_store_and_redb_answer_the_same_to_any_operations(
        is_always in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(if is_always { Durability::Always } else { Durability::Interval });
        steps.iter().for_each(|step| pair.take(step));
        pair.compare_all();
        pair.reopen();
        pair.compare_all();
    }
}

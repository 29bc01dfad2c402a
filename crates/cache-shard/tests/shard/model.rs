//! Any sequence of operations, against a plain map.

use std::{collections::BTreeMap, time::Duration};

use cache_shard::store::{Budget, NewRecord, Options, Precision, PutOutcome, Store, Vector};
use proptest::prelude::*;

use crate::stock::{ANSWER_BYTES_MAX, TestClock, get, key, options, vector};

const KEYS: u16 = 24;
const NAMESPACES: [&str; 3] = ["", "a", "ab"];

#[derive(Debug, Clone)]
enum Step {
    Put {
        namespace: usize,
        number: u16,
        precision: Precision,
        ttl_ms: u64,
    },
    Get {
        namespace: usize,
    },
    Remove {
        namespace: usize,
        number: u16,
    },
    Clear {
        namespace: usize,
    },
    /// The clock goes on, or back.
    Move {
        by_ms: i64,
    },
    Keep,
    Reopen,
}

fn precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8])
}

fn step() -> impl Strategy<Value = Step> {
    let namespace = 0..NAMESPACES.len();
    prop_oneof![
        10 => (namespace.clone(), 0..KEYS, precision(), 1..2_000_u64).prop_map(|(namespace, number, precision, ttl_ms)| {
            Step::Put { namespace, number, precision, ttl_ms }
        }),
        4 => namespace.clone().prop_map(|namespace| Step::Get { namespace }),
        2 => (namespace.clone(), 0..KEYS).prop_map(|(namespace, number)| Step::Remove { namespace, number }),
        1 => namespace.prop_map(|namespace| Step::Clear { namespace }),
        2 => (-500..900_i64).prop_map(|by_ms| Step::Move { by_ms }),
        1 => Just(Step::Keep),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug)]
struct Expected {
    vector: Vector,
    expires_ms: u64,
    /// Its place in the order of writes.
    written: usize,
}

struct Model {
    directory: tempfile::TempDir,
    options: Options,
    clock: TestClock,
    clock_ms: u64,
    /// The latest moment the clock has shown: time does not go back.
    now_ms: u64,
    store: Option<Store>,
    map: BTreeMap<(usize, u16), Expected>,
    writes: usize,
    /// Writes before this one may have been pushed out.
    gone_before: usize,
    evicted: u64,
}

impl Model {
    fn new(budget: Budget) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let options = Options { budget, ..options(directory.path(), &clock) };
        let store = Some(Store::open(options.clone()).unwrap());
        Self {
            directory,
            options,
            clock,
            clock_ms: 1_000_000,
            now_ms: 1_000_000,
            store,
            map: BTreeMap::new(),
            writes: 0,
            gone_before: 0,
            evicted: 0,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn is_alive(&self, expected: &Expected) -> bool {
        expected.expires_ms > self.now_ms
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put { namespace, number, precision, ttl_ms } => {
                self.put(namespace, number, precision, ttl_ms)
            }
            Step::Get { namespace } => self.compare(namespace),
            Step::Remove { namespace, number } => {
                self.store().remove_many(NAMESPACES[namespace], &[key(number)]).unwrap();
                self.map.remove(&(namespace, number));
            }
            Step::Clear { namespace } => {
                let before = self.store().generation(NAMESPACES[namespace]);
                assert_ne!(self.store().clear(NAMESPACES[namespace]).unwrap(), before);
                self.map.retain(|(other, _), _| *other != namespace);
            }
            Step::Move { by_ms } => {
                self.clock_ms = self.clock_ms.saturating_add_signed(by_ms);
                self.now_ms = self.now_ms.max(self.clock_ms);
                self.clock.set(self.clock_ms);
                // Only a moment that the store has seen counts.
                get(self.store(), "", 0);
            }
            Step::Keep => self.store().keep(),
            Step::Reopen => {
                self.evicted += self.store().stats().evicted;
                // A clock that goes back while nobody looks is a test of its own.
                self.clock_ms = self.now_ms;
                self.clock.set(self.clock_ms);
                // The lock has to be free first.
                drop(self.store.take());
                self.store = Some(Store::open(self.options.clone()).unwrap());
            }
        }
        self.check_bounds();
    }

    fn put(&mut self, namespace: usize, number: u16, precision: Precision, ttl_ms: u64) {
        let vector = vector(number, precision);
        let ttl = Some(Duration::from_millis(ttl_ms));
        let new = NewRecord { key: key(number), vector: vector.clone(), ttl };
        let before = get(self.store(), NAMESPACES[namespace], number);
        let answer = self.store().put_many(NAMESPACES[namespace], &[new], None);
        match &before {
            Some(before) if !before.precision.makes_way_for(precision) => {
                assert_eq!(answer.outcomes, [PutOutcome::Kept]);
            }
            Some(_) | None => {
                assert_eq!(answer.outcomes, [PutOutcome::Accepted]);
                self.writes += 1;
                let expected = Expected { vector, expires_ms: self.now_ms + ttl_ms, written: self.writes };
                self.map.insert((namespace, number), expected);
            }
        }
    }

    fn compare(&mut self, namespace: usize) {
        let keys: Vec<_> = (0..KEYS).map(key).collect();
        let found = self.store().get_many(NAMESPACES[namespace], &keys, ANSWER_BYTES_MAX);
        for (number, hit) in (0..KEYS).zip(found.hits) {
            let expected = self.map.get(&(namespace, number)).filter(|expected| self.is_alive(expected));
            match (hit, expected) {
                (None, None) => {}
                (Some(hit), Some(expected)) => {
                    assert_eq!(hit.vector, expected.vector);
                    assert_eq!(hit.remaining.as_millis(), u128::from(expected.expires_ms - self.now_ms));
                }
                (Some(hit), None) => panic!("{number} should be gone, found {hit:?}"),
                (None, Some(expected)) => self.gone_before = self.gone_before.max(expected.written),
            }
        }
    }

    /// What is missing was pushed out, and the oldest writes went first.
    fn check_order(&mut self) {
        (0..NAMESPACES.len()).for_each(|namespace| self.compare(namespace));
        let evicted = self.evicted + self.store().stats().evicted;
        assert!(self.gone_before == 0 || evicted > 0, "missing, but nothing was pushed out");
        for ((namespace, number), expected) in &self.map {
            if expected.written < self.gone_before && self.is_alive(expected) {
                let found = get(self.store(), NAMESPACES[*namespace], *number);
                assert!(found.is_none(), "an older write outlived a younger one: {expected:?}");
            }
        }
    }

    fn check_bounds(&self) {
        let stats = self.store().stats();
        let budget = self.options.budget;
        assert!(stats.entries <= budget.entries_max as u64 && stats.bytes <= budget.bytes_max, "{stats:?}");
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap());
        let segments = files.filter(|file| file.file_name().to_str().unwrap().ends_with(".seg"));
        let bytes: u64 = segments.map(|file| file.metadata().unwrap().len()).sum();
        assert_eq!(bytes, stats.bytes);
        assert_eq!((stats.damaged_records, stats.degraded), (0, None));
    }
}

fn budget() -> impl Strategy<Value = Budget> {
    (prop::sample::select(vec![4, 20, 1_000]), prop::sample::select(vec![2_000, 6_000, 1 << 20]))
        .prop_map(|(entries_max, bytes_max)| Budget { entries_max, bytes_max, segment_bytes_max: 1 << 16 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_store_is_a_map_that_may_forget_its_oldest(budget in budget(), steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new(budget);
        steps.iter().for_each(|step| model.take(step));
        model.check_order();
    }
}

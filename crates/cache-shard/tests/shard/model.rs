//! What a store may answer: for each key the records that it may have, and whether it must have one.
//!
//! A record is certain once it is written, and for a power cut once it is synced; a removal likewise. What is uncertain may
//! be answered or not; what is wrong, expired, removed or cleared may not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cache_shard::store::{Durability, NewRecord, Options, Precision, PutOutcome, Store, Vector, Vfs};
use proptest::prelude::*;

use crate::stock::{ANSWER_BYTES_MAX, TestClock, get, key, vector};

pub const KEYS: u16 = 24;
pub const NAMESPACES: [&str; 3] = ["", "a", "ab"];

#[derive(Debug, Clone)]
pub enum Step {
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
    /// A round of the keeper.
    Keep,
    /// The process ends by itself, or is killed, and starts again.
    Reopen {
        is_closed: bool,
    },
    /// The power goes, and comes again.
    Cut {
        seed: u64,
    },
}

fn precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8])
}

/// From less than a second to two days: all classes of segments that a small test can meet.
fn ttl_ms() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 1..2_000_u64, 1 => prop::sample::select(vec![1_000_000, 10_000_000, 100_000_000])]
}

pub fn step() -> impl Strategy<Value = Step> {
    let namespace = 0..NAMESPACES.len();
    prop_oneof![
        10 => (namespace.clone(), 0..KEYS, precision(), ttl_ms()).prop_map(|(namespace, number, precision, ttl_ms)| {
            Step::Put { namespace, number, precision, ttl_ms }
        }),
        4 => namespace.clone().prop_map(|namespace| Step::Get { namespace }),
        2 => (namespace.clone(), 0..KEYS).prop_map(|(namespace, number)| Step::Remove { namespace, number }),
        1 => namespace.prop_map(|namespace| Step::Clear { namespace }),
        2 => prop_oneof![4 => -500..900_i64, 1 => 0..20_000_000_i64].prop_map(|by_ms| Step::Move { by_ms }),
        2 => Just(Step::Keep),
        1 => any::<bool>().prop_map(|is_closed| Step::Reopen { is_closed }),
        1 => any::<u64>().prop_map(|seed| Step::Cut { seed }),
    ]
}

/// How sure it is that something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Synced,
    Written,
    Perhaps,
}

#[derive(Debug, Clone)]
struct Version {
    vector: Vector,
    expires_ms: u64,
    certainty: Certainty,
    /// Until that is synced, a power cut may bring it back.
    is_removed: bool,
}

/// What a directory is, beside what the store sees of it.
pub trait Ground {
    fn vfs(&self) -> Arc<dyn Vfs>;
    /// Takes the power away, and gives it back.
    fn reboot(&self, seed: u64);
    /// True while the power is off.
    fn is_off(&self) -> bool;
    /// Bytes of segments and their contents.
    fn bytes(&self) -> u64;
}

pub struct Model<G> {
    pub ground: G,
    options: Options,
    clock: TestClock,
    clock_ms: u64,
    /// The latest moment the clock has shown: time does not go back.
    now_ms: u64,
    store: Option<Store>,
    map: BTreeMap<(usize, u16), Vec<Version>>,
    evicted: u64,
    /// Vectors that were compared with what they should be.
    pub compared: u64,
}

impl<G: Ground> Model<G> {
    /// None if the store cannot be opened, which is allowed while the power is off.
    pub fn new(ground: G, options: Options, clock: TestClock) -> Option<Self> {
        let options = Options { vfs: ground.vfs(), ..options };
        let store = Store::open(options.clone());
        assert!(store.is_ok() || ground.is_off(), "{store:?}");
        let store = Some(store.ok()?);
        let (clock_ms, now_ms) = (1_000_000, 1_000_000);
        let map = BTreeMap::new();
        Some(Self { ground, options, clock, clock_ms, now_ms, store, map, evicted: 0, compared: 0 })
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn evicted(&self) -> u64 {
        self.evicted + self.store().stats().evicted
    }

    /// True if the store took the step; false if the power went in the middle of it.
    pub fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Put { namespace, number, precision, ttl_ms } => {
                self.put(namespace, number, precision, ttl_ms)
            }
            Step::Get { namespace } => self.compare(namespace),
            Step::Remove { namespace, number } => self.remove(namespace, number),
            Step::Clear { namespace } => self.clear(namespace),
            Step::Move { by_ms } => self.move_clock(by_ms),
            Step::Keep => self.keep(),
            Step::Reopen { is_closed } => {
                if is_closed {
                    self.store().keep();
                    self.store().close();
                }
                if !self.ground.is_off() {
                    self.reopen();
                }
            }
            Step::Cut { seed } => self.lose_power(seed),
        }
        let is_on = !self.ground.is_off();
        if is_on {
            self.check_bounds();
        }
        is_on
    }

    fn versions(&mut self, namespace: usize, number: u16) -> &mut Vec<Version> {
        self.map.entry((namespace, number)).or_default()
    }

    fn put(&mut self, namespace: usize, number: u16, precision: Precision, ttl_ms: u64) {
        let vector = vector(number, precision);
        let ttl = Some(Duration::from_millis(ttl_ms));
        let new = NewRecord { key: key(number), vector: vector.clone(), ttl };
        let before = get(self.store(), NAMESPACES[namespace], number);
        let answer = self.store().put_many(NAMESPACES[namespace], &[new], None);
        let certainty = match &answer.outcomes[0] {
            PutOutcome::Accepted if self.options.durability == Durability::Always => Certainty::Synced,
            PutOutcome::Accepted => Certainty::Written,
            PutOutcome::Kept => {
                assert!(before.is_some_and(|before| !before.precision.makes_way_for(precision)));
                return;
            }
            PutOutcome::Refused(_) if self.ground.is_off() => Certainty::Perhaps,
            PutOutcome::Refused(error) => panic!("{error}"),
        };
        assert!(before.is_none_or(|before| before.precision.makes_way_for(precision)));
        let expires_ms = self.now_ms + ttl_ms;
        let versions = self.versions(namespace, number);
        // The new one stands before it; once that is gone it may be seen again, and need not.
        versions.iter_mut().for_each(|version| version.certainty = Certainty::Perhaps);
        versions.push(Version { vector, expires_ms, certainty, is_removed: false });
    }

    fn remove(&mut self, namespace: usize, number: u16) {
        let removed = self.store().remove_many(NAMESPACES[namespace], &[key(number)]);
        let is_always = self.options.durability == Durability::Always;
        let versions = self.versions(namespace, number);
        match removed {
            Ok(removed) if is_always && removed > 0 => versions.clear(),
            Ok(_) => versions.iter_mut().for_each(|version| version.is_removed = true),
            Err(error) => {
                assert!(self.ground.is_off(), "{error}");
                self.is_uncertain(|(other, key)| (other, key) == (namespace, number));
            }
        }
    }

    fn clear(&mut self, namespace: usize) {
        let before = self.store().generation(NAMESPACES[namespace]);
        match self.store().clear(NAMESPACES[namespace]) {
            Ok(generation) => {
                assert_ne!(generation, before);
                self.map.retain(|(other, _), _| *other != namespace);
            }
            Err(error) => {
                assert!(self.ground.is_off(), "{error}");
                self.is_uncertain(|(other, _)| other == namespace);
            }
        }
    }

    fn is_uncertain(&mut self, is_it: impl Fn((usize, u16)) -> bool) {
        for (place, versions) in &mut self.map {
            if is_it(*place) {
                versions.iter_mut().for_each(|version| version.certainty = Certainty::Perhaps);
            }
        }
    }

    fn move_clock(&mut self, by_ms: i64) {
        self.clock_ms = self.clock_ms.saturating_add_signed(by_ms);
        self.now_ms = self.now_ms.max(self.clock_ms);
        self.clock.set(self.clock_ms);
        // Only a moment that the store has seen counts.
        get(self.store(), "", 0);
    }

    fn keep(&mut self) {
        self.store().keep();
        if self.ground.is_off() {
            return;
        }
        for versions in self.map.values_mut() {
            versions.retain(|version| !version.is_removed);
            for version in versions.iter_mut().filter(|version| version.certainty == Certainty::Written) {
                version.certainty = Certainty::Synced;
            }
        }
    }

    fn reopen(&mut self) {
        self.evicted = self.evicted();
        // A clock that goes back while nobody looks is a test of its own.
        self.clock_ms = self.now_ms;
        self.clock.set(self.clock_ms);
        // The lock has to be free first.
        drop(self.store.take());
        self.store = Some(Store::open(self.options.clone()).unwrap());
    }

    /// Something was damaged: what is missing from now on may be missing.
    pub fn may_miss(&mut self) {
        self.evicted += 1;
    }

    /// The power went in the middle of a step: where budgets are small, a segment may have gone that nobody counted.
    pub fn lose_power_in_a_step(&mut self, seed: u64) {
        self.evicted +=
            u64::from(self.options.budget.entries_max <= 20 || self.options.budget.bytes_max <= 12_000);
        self.lose_power(seed);
    }

    /// What holds after the power was gone.
    fn lose_power(&mut self, seed: u64) {
        self.evicted = self.evicted();
        drop(self.store.take());
        self.ground.reboot(seed);
        self.clock_ms = self.now_ms;
        self.clock.set(self.clock_ms);
        for version in self.map.values_mut().flatten() {
            if version.certainty != Certainty::Synced || version.is_removed {
                version.certainty = Certainty::Perhaps;
            }
            version.is_removed = false;
        }
        self.store = Some(Store::open(self.options.clone()).unwrap());
    }

    fn compare(&mut self, namespace: usize) {
        let keys: Vec<_> = (0..KEYS).map(key).collect();
        let evicted = self.evicted();
        let found = self.store().get_many(NAMESPACES[namespace], &keys, ANSWER_BYTES_MAX);
        if self.ground.is_off() {
            return;
        }
        for (number, hit) in (0..KEYS).zip(found.hits) {
            let now_ms = self.now_ms;
            let versions = self.versions(namespace, number).iter();
            let mut there =
                versions.filter(|version| !version.is_removed && version.expires_ms > now_ms).peekable();
            match hit {
                Some(hit) => {
                    let is_right = |version: &Version| {
                        version.vector == hit.vector
                            && hit.remaining == Duration::from_millis(version.expires_ms - now_ms)
                    };
                    assert!(
                        there.any(is_right),
                        "{number}: {hit:?}, of {:?}",
                        self.versions(namespace, number)
                    );
                    self.compared += 1;
                }
                None => {
                    let must = there.find(|version| version.certainty != Certainty::Perhaps);
                    assert!(must.is_none() || evicted > 0, "{number} is missing: {must:?}");
                }
            }
        }
    }

    pub fn compare_all(&mut self) {
        (0..NAMESPACES.len()).for_each(|namespace| self.compare(namespace));
    }

    fn check_bounds(&self) {
        let stats = self.store().stats();
        let budget = self.options.budget;
        assert!(stats.entries <= budget.entries_max as u64 && stats.bytes <= budget.bytes_max, "{stats:?}");
        assert_eq!(self.ground.bytes(), stats.bytes);
        assert_eq!(stats.degraded, None);
    }
}

//! Neighbours and lists: all of what is there and nothing else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cache_shard::store::{
    Cursor, Element, Identity, NewRecord, Options, Precision, Probe, PutOutcome, SimilarError, Store, Vector,
};
use half::f16;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    simulated::SimFs,
    stock::{ANSWER_BYTES_MAX, TestClock, budget, key, options, record},
};

const WIDTH: usize = 37;
const MODEL: Identity = Identity([7; 32]);

fn store(disk: &SimFs) -> (Store, TestClock) {
    let clock = TestClock::new();
    let options = Options {
        vfs: Arc::new(disk.clone()),
        budget: budget(10_000, 1 << 22),
        ..options(std::path::Path::new(""), &clock)
    };
    (Store::open(options).unwrap(), clock)
}

/// A vector of random numbers, as halves or as floats.
fn random(number: u16, random: &mut StdRng) -> (NewRecord, Vec<f32>) {
    let numbers: Vec<f32> =
        (0..WIDTH).map(|_| f16::from_f32(random.random_range(-1.0..1.0)).to_f32()).collect();
    let (element, bytes): (_, Vec<u8>) = match number % 2 {
        0 => (Element::Float16, numbers.iter().flat_map(|it| f16::from_f32(*it).to_le_bytes()).collect()),
        _ => (Element::Float32, numbers.iter().flat_map(|it| it.to_le_bytes()).collect()),
    };
    let vector = Vector {
        identity: MODEL,
        element,
        precision: Precision::Float16,
        width: u32::try_from(WIDTH).unwrap(),
        tokens: 3,
        truncated: false,
        text: Bytes::from(format!("text {number}")),
        bytes: bytes.into(),
    };
    (NewRecord { key: key(number), vector, ttl: None }, numbers)
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
    };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn neighbours_are_those_that_a_plain_loop_finds(seed in any::<u64>(), records in 1..200_u16, count in 1..30_usize) {
        let (store, _) = store(&SimFs::default());
        let mut source = StdRng::seed_from_u64(seed);
        let (new, vectors): (Vec<_>, Vec<_>) = (0..records).map(|number| random(number, &mut source)).unzip();
        prop_assert!(store.put_many("n", &new, None).outcomes.iter().all(|it| *it == PutOutcome::Accepted));
        // What is not to be found: removed, of another namespace, of another model.
        store.remove_many("n", &[key(0)]).unwrap();
        store.put_many("m", &new, None);
        store.put_many("n", &[record(5_000)], None);
        let wanted = random(1, &mut source).1;
        let found = store.similar("n", MODEL, &Probe::Vector(wanted.clone()), count).unwrap();
        let mut expected: Vec<_> =
            (1..records).map(|number| (cosine(&wanted, &vectors[usize::from(number)]), number)).collect();
        expected.sort_by(|one, other| other.0.total_cmp(&one.0));
        prop_assert_eq!(found.compared, u64::from(records - 1));
        prop_assert_eq!(found.nearest.len(), count.min(usize::from(records - 1)));
        for (near, (cosine, _)) in found.nearest.iter().zip(&expected) {
            prop_assert!((f64::from(near.cosine) - cosine).abs() < 1e-5, "{} {cosine}", near.cosine);
            let number = u16::from_le_bytes([near.key.0[0], near.key.0[1]]);
            prop_assert_eq!(&near.hit.vector, &new[usize::from(number)].vector);
        }
    }
}

#[test]
fn a_stored_vector_is_not_its_own_neighbour_and_a_probe_needs_a_direction() {
    let (store, clock) = store(&SimFs::default());
    let mut source = StdRng::seed_from_u64(1);
    let new: Vec<_> = (0..10).map(|number| random(number, &mut source).0).collect();
    store.put_many("n", &new, None);
    let found = store.similar("n", MODEL, &Probe::Stored(key(3)), 20).unwrap();
    assert!(found.nearest.len() == 9 && found.nearest.iter().all(|near| near.key != key(3)));
    let refused = |probe| store.similar("n", MODEL, &probe, 3).unwrap_err();
    assert_eq!(refused(Probe::Stored(key(99))), SimilarError::NoSuchKey);
    for numbers in [vec![], vec![0.0; WIDTH], vec![f32::NAN; WIDTH]] {
        assert_eq!(refused(Probe::Vector(numbers)), SimilarError::NoDirection);
    }
    clock.set(1_060_000);
    assert!(store.similar("n", MODEL, &Probe::Vector(vec![1.0; WIDTH]), 3).unwrap().nearest.is_empty());
}

#[test]
fn pages_hold_every_record_once_with_its_text() {
    let (store, _) = store(&SimFs::default());
    let mut source = StdRng::seed_from_u64(1);
    let mut new: Vec<_> = (0..500).map(|number| random(number, &mut source).0).collect();
    for (number, record) in (0..).zip(&mut new) {
        record.ttl = Some(Duration::from_secs([60, 7_000, 80_000][number % 3]));
    }
    store.put_many("n", &new, None);
    store.put_many("m", &[record(1)], None);
    store.remove_many("n", &[key(17)]).unwrap();
    let (mut seen, mut from, mut pages) = (Vec::new(), Cursor::default(), 0);
    loop {
        let page = store.list("n", from, 64, ANSWER_BYTES_MAX);
        for (key, hit) in page.records {
            let number = u16::from_le_bytes([key.0[0], key.0[1]]);
            assert_eq!(hit.vector, new[usize::from(number)].vector);
            seen.push(number);
        }
        pages += 1;
        let Some(next) = page.next else { break };
        from = next;
    }
    seen.sort_unstable();
    let expected: Vec<u16> = (0..500).filter(|number| *number != 17).collect();
    assert_eq!((seen, pages), (expected, 8));
    // A page has at least one record, whatever bytes are allowed.
    assert_eq!(store.list("n", Cursor::default(), 64, 1).records.len(), 1);
}

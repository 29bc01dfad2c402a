//! So many random operations on a disk whose power goes, whose bytes rot: not one wrong vector.
//!
//! `cargo xtask prove` runs this with ten million operations; a test run takes fewer.

use cache_shard::store::{Durability, Options};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    any_order::budget,
    model::{Model, step},
    simulated::SimFs,
    stage::{say, variable},
    stock::{TestClock, options},
};

const OPERATIONS: u64 = 30_000;
/// Operations on one disk, before the next one.
const DISK_OPERATIONS: u64 = 2_000;
/// One operation in so many is followed by a cut within the next few changes of the disk.
const CUT_ONE_IN: u32 = 50;
const FLIP_ONE_IN: u32 = 200;

#[derive(Debug, Default)]
struct Counts {
    operations: u64,
    cuts: u64,
    flips: u64,
    compared: u64,
}

/// Flips a bit of a file that holds vectors or contents; a removal that rots is a removal that is lost.
fn flip(disk: &SimFs, random: &mut StdRng) -> bool {
    let names = disk.names(&[".seg", ".contents"]);
    let Some(name) = names.get(random.random_range(0..names.len().max(1))) else { return false };
    let file = disk.contents(name);
    if file.is_empty() || (name.ends_with(".seg") && file.get(24) == Some(&0)) {
        return false;
    }
    let (index, bit) = (random.random_range(0..file.len()), random.random_range(0..8));
    disk.edit(name, |file| file[index] ^= 1 << bit);
    true
}

/// Works on one disk.
fn work(seed: u64, operations: u64, counts: &mut Counts) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng(&mut random));
    let budget = budget().new_tree(&mut runner).unwrap().current();
    let durability = if seed.is_multiple_of(2) { Durability::Interval } else { Durability::Always };
    let rots = seed.is_multiple_of(3);
    let (disk, clock) = (SimFs::default(), TestClock::new());
    let options = Options { budget, durability, ..options(std::path::Path::new(""), &clock) };
    let mut model = Model::new(disk.clone(), options, clock).unwrap();
    let steps = step();
    for _ in 0..operations {
        // A runner of its own for each, so that they differ from disk to disk.
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng(&mut random));
        let step = steps.new_tree(&mut runner).unwrap().current();
        if random.random_ratio(1, CUT_ONE_IN) {
            disk.cut_power_after(disk.operations() + random.random_range(0..12));
        }
        if rots && random.random_ratio(1, FLIP_ONE_IN) && flip(&disk, &mut random) {
            model.may_miss();
            counts.flips += 1;
        }
        if !model.take(&step) {
            model.lose_power_in_a_step(random.random());
            counts.cuts += 1;
        }
    }
    model.compare_all();
    counts.operations += operations;
    counts.compared += model.compared;
}

fn rng(random: &mut StdRng) -> proptest::test_runner::TestRng {
    let seed: [u8; 32] = random.random();
    proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed)
}

#[test]
fn so_many_operations_with_faults_bring_no_wrong_vector() {
    let wanted = variable("SUTRA_PROOF_OPERATIONS").map_or(OPERATIONS, |wanted| wanted.parse().unwrap());
    let seed: u64 = variable("SUTRA_PROOF_SEED").map_or_else(rand::random, |seed| seed.parse().unwrap());
    let mut counts = Counts::default();
    let mut disks = 0;
    while counts.operations < wanted {
        let disk_seed = seed.wrapping_add(disks);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            work(disk_seed, DISK_OPERATIONS.min(wanted - counts.operations), &mut counts);
        }));
        outcome.unwrap_or_else(|_| panic!("again with SUTRA_PROOF_SEED={disk_seed}"));
        disks += 1;
        if disks % 500 == 0 {
            say(&format!("{counts:?}"));
        }
    }
    say(&format!("seed {seed}: {counts:?}, 0 wrong vectors"));
    assert!(counts.cuts > 0 && counts.compared > counts.operations / 4, "{counts:?}");
}

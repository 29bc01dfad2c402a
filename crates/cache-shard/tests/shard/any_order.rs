//! Any sequence of operations, on a real directory and on a simulated disk, against a model.

use std::sync::Arc;

use cache_shard::store::{Budget, Durability, Options, RealFs, Vfs};
use proptest::prelude::*;

use crate::{
    model::{Ground, Model, Step, step},
    simulated::SimFs,
    stock::{TestClock, options},
};

impl Ground for tempfile::TempDir {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(RealFs::new(self.path()))
    }

    fn reboot(&self, _: u64) {}

    fn is_off(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap());
        let ours = files.filter(|file| {
            let name = file.file_name().into_string().unwrap();
            name.ends_with(".seg") || name.ends_with(".contents")
        });
        ours.map(|file| file.metadata().unwrap().len()).sum()
    }
}

impl Ground for SimFs {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.clone())
    }

    fn reboot(&self, seed: u64) {
        SimFs::reboot(self, seed);
    }

    fn is_off(&self) -> bool {
        SimFs::is_off(self)
    }

    fn bytes(&self) -> u64 {
        self.bytes_of(&[".seg", ".contents"])
    }
}

pub fn budget() -> impl Strategy<Value = Budget> {
    let entries_max = prop::sample::select(vec![4, 20, 1_000]);
    let bytes_max = prop::sample::select(vec![4_000, 12_000, 1 << 20]);
    (entries_max, bytes_max).prop_map(|(entries_max, bytes_max)| Budget {
        entries_max,
        bytes_max,
        segment_bytes_max: 1 << 16,
        index_bytes_max: 1 << 30,
    })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop::sample::select(vec![Durability::Interval, Durability::Always])
}

fn run<G: Ground>(ground: G, budget: Budget, durability: Durability, steps: &[Step]) {
    let clock = TestClock::new();
    let options = Options { budget, durability, ..options(std::path::Path::new(""), &clock) };
    let mut model = Model::new(ground, options, clock).unwrap();
    steps.iter().for_each(|step| assert!(model.take(step)));
    model.compare_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_store_in_a_directory_answers_what_was_put_or_nothing(budget in budget(), durability in durability(), steps in prop::collection::vec(step(), 1..120)) {
        run(tempfile::tempdir().unwrap(), budget, durability, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_store_whose_power_is_cut_answers_what_was_put_or_nothing(budget in budget(), durability in durability(), steps in prop::collection::vec(step(), 1..120)) {
        run(SimFs::default(), budget, durability, &steps);
    }
}

//! The power goes at every write, every fsync and every change of a name, one after another.

use cache_shard::store::{Budget, Durability, Options};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    any_order::budget,
    model::{Model, Step, step},
    simulated::SimFs,
    stock::{TestClock, options},
};

/// Lists of steps, each run once for every operation of the disk that it makes.
const LISTS: usize = 40;
const STEPS: usize = 40;

fn model(disk: &SimFs, budget: Budget, durability: Durability) -> Option<Model<SimFs>> {
    let clock = TestClock::new();
    let options = Options { budget, durability, ..options(std::path::Path::new(""), &clock) };
    Model::new(disk.clone(), options, clock)
}

/// Runs `steps` until the power goes after so many operations, and on after it is back.
fn run_with_cut(steps: &[Step], budget: Budget, durability: Durability, after: u64) -> Option<Model<SimFs>> {
    let disk = SimFs::default();
    disk.cut_power_after(after);
    let Some(mut model) = model(&disk, budget, durability) else {
        disk.reboot(after);
        return model(&disk, budget, durability);
    };
    let is_cut = steps.iter().any(|step| !model.take(step));
    if is_cut {
        model.lose_power_in_a_step(after);
        model.compare_all();
        // It works on, and what it finds then it finds again.
        steps.iter().for_each(|step| assert!(model.take(step)));
    }
    model.compare_all();
    Some(model)
}

#[test]
fn a_power_cut_at_any_moment_costs_what_was_not_synced_and_nothing_else() {
    let mut runner = TestRunner::default();
    let (mut cuts, mut compared) = (0, 0);
    for list in 0..LISTS {
        let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).unwrap().current();
        let budget = budget().new_tree(&mut runner).unwrap().current();
        let durability = if list % 2 == 0 { Durability::Interval } else { Durability::Always };
        let disk = SimFs::default();
        let mut whole = model(&disk, budget, durability).unwrap();
        steps.iter().for_each(|step| assert!(whole.take(step)));
        for after in 0..disk.operations() {
            let context = format!("list {list}, cut after {after}, {budget:?}, {durability:?}: {steps:?}");
            let outcome = std::panic::catch_unwind(|| run_with_cut(&steps, budget, durability, after));
            let model = outcome.unwrap_or_else(|_| panic!("{context}"));
            cuts += 1;
            compared += model.map_or(0, |model| model.compared);
        }
    }
    assert!(cuts > 1_000 && compared > 10_000, "{cuts} cuts, {compared} vectors compared");
}

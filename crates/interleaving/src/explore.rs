//! The same test again and again, each time with other turns.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use shuttle::{
    Config, MaxSteps, Runner,
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};

/// Turns drawn from one seed, before the next one.
const SCHEDULES_OF_A_SEED: u64 = 100;
/// Changes of who goes first, in the schedules where somebody always does: few are what most faults need.
const CHANGES: usize = 3;
/// A schedule of so many steps goes on for ever: somebody waits for what never comes.
const STEPS_MAX: usize = 100_000;
/// Of a thread of a test; a test program is built with room in its frames.
const STACK_BYTES: usize = 1 << 19;

/// Runs `test` with `schedules` different turns of its threads, or with as many as `SUTRA_PROOF_SCHEDULES` says, from a
/// random seed on, or from that in `SUTRA_PROOF_SEED`.
///
/// # Panics
/// At the first that fails, with the seed that finds it again.
pub fn explore(schedules: u64, test: impl Fn() + Send + Sync + 'static) {
    let schedules = variable("SUTRA_PROOF_SCHEDULES").unwrap_or(schedules);
    let first = variable("SUTRA_PROOF_SEED").unwrap_or_else(rand::random);
    say(&format!("{schedules} schedules from seed {first} on"));
    let test = Arc::new(test);
    for round in 0..schedules.div_ceil(SCHEDULES_OF_A_SEED) {
        let seed = first.wrapping_add(round);
        let outcome = catch_unwind(AssertUnwindSafe(|| explore_from(seed, test.clone())));
        outcome.unwrap_or_else(|_| panic!("again with SUTRA_PROOF_SEED={seed}"));
    }
}

/// A number below `count`, drawn with the turns.
pub fn one_of(count: u16) -> u16 {
    shuttle::rand::thread_rng().gen_range(0..count)
}

/// One half of all seeds draws each turn by itself; the other half lets one thread go on as long as it can, but for a few
/// changes.
fn explore_from(seed: u64, test: Arc<impl Fn() + Send + Sync + 'static>) {
    let count = usize::try_from(SCHEDULES_OF_A_SEED).unwrap_or(usize::MAX);
    match seed % 2 {
        0 => run(RandomScheduler::new_from_seed(seed, count), test),
        _ => run(PctScheduler::new_from_seed(seed, CHANGES, count), test),
    }
}

fn run(scheduler: impl Scheduler + 'static, test: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || test());
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is `{value}`, which is no number")))
}

fn say(words: &str) {
    // A test whose terminal is gone still tests.
    writeln!(std::io::stderr(), "{words}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use shuttle::thread;

    use super::*;
    use crate::sync::{
        Condvar, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    };

    const SCHEDULES: u64 = 1_000;

    fn fails(test: impl Fn() + Send + Sync + 'static) -> bool {
        catch_unwind(AssertUnwindSafe(|| explore(SCHEDULES, test))).is_err()
    }

    /// Twice at once.
    fn twice<S: Default + Send + Sync + 'static>(work: fn(&S)) -> Arc<S> {
        let shared = Arc::new(S::default());
        let threads = [shared.clone(), shared.clone()].map(|shared| thread::spawn(move || work(&shared)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        shared
    }

    #[test]
    fn an_update_that_is_lost_between_two_steps_is_found() {
        assert!(fails(|| {
            let count = twice(|count: &AtomicU64| {
                let before = count.load(Ordering::SeqCst);
                count.store(before + 1, Ordering::SeqCst);
            });
            assert_eq!(count.load(Ordering::SeqCst), 2);
        }));
    }

    #[test]
    fn what_is_done_under_a_lock_is_not_disturbed() {
        explore(SCHEDULES, || {
            let both = twice(|(one, other): &(Mutex<u64>, RwLock<u64>)| {
                let mut one = one.lock().unwrap();
                let before = *other.read().unwrap();
                *other.write().unwrap() = before + 1;
                *one += 1;
            });
            assert_eq!((*both.0.lock().unwrap(), *both.1.read().unwrap()), (2, 2));
        });
    }

    #[test]
    fn whoever_waits_for_what_has_been_already_is_found() {
        let wait = |is_careful: bool| {
            move || {
                let shared = Arc::new((Mutex::new(false), Condvar::default()));
                let told = shared.clone();
                let telling = thread::spawn(move || {
                    *told.0.lock().unwrap() = true;
                    told.1.notify_all();
                });
                let mut is_told = shared.0.lock().unwrap();
                while is_careful && !*is_told {
                    is_told = shared.1.wait(is_told).unwrap();
                }
                if !is_careful {
                    is_told = shared.1.wait(is_told).unwrap();
                }
                drop(is_told);
                telling.join().unwrap();
            }
        };
        explore(SCHEDULES, wait(true));
        assert!(fails(wait(false)));
    }
}

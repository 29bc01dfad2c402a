//! The one retry, and the budget that keeps retries from becoming the load.
//!
//! A fifth of the calls may be repeated, and ten a second on top, so that a quiet proxy can retry as well.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::Rng;
use tokio::time::Instant;

const RETRIES_PER_CALL: f64 = 0.2;
const RETRIES_PER_SECOND: f64 = 10.0;
/// Retries that can be saved up.
const SAVED_MAX: f64 = 100.0;
const DELAY_MILLISECONDS: std::ops::RangeInclusive<u64> = 50..=200;

/// Pause before a retry, different for each, so that they do not come all at once.
pub(crate) fn delay() -> Duration {
    Duration::from_millis(rand::rng().random_range(DELAY_MILLISECONDS))
}

/// How many retries are left.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Saved>);

#[derive(Debug)]
struct Saved {
    retries: f64,
    counted_until: Instant,
}

impl Budget {
    /// A budget with one second's worth in it.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Saved { retries: RETRIES_PER_SECOND, counted_until: now }))
    }

    /// Notes a call.
    pub(crate) fn deposit(&self) {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        saved.retries = (saved.retries + RETRIES_PER_CALL).min(SAVED_MAX);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(saved.counted_until).as_secs_f64();
        saved.retries = (saved.retries + passed * RETRIES_PER_SECOND).min(SAVED_MAX);
        saved.counted_until = now;
        let granted = saved.retries >= 1.0;
        if granted {
            saved.retries -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_repeats_a_fifth_of_the_calls() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let granted = (0..1000).filter(|_| {
            budget.deposit();
            budget.withdraw(now)
        });
        let granted = granted.count();
        // 10 to begin with, then every fifth; one off for rounding.
        assert!((209..=210).contains(&granted), "{granted}");
    }

    #[test]
    fn time_refills_the_budget_up_to_its_bound() {
        let now = Instant::now();
        let budget = Budget::new(now);
        while budget.withdraw(now) {}
        assert!(budget.withdraw(now + Duration::from_millis(101)));
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| budget.withdraw(later)).count(), 100);
    }
}

//! Leaves the shard alone while it does not answer.
//!
//! ```text
//!            5 failures in a row, or a probe failed          a probe was answered
//!  Closed ───────────────────────────────────────▶ Open ───────────────────────▶ HalfOpen
//!    ▲                                              ▲                             │    │
//!    │                                              └── the trial failed ─────────┘    │
//!    └───────────────────── the trial was answered ────────────────────────────────────┘
//! ```
//!
//! Probes are the watch's: no request is spent to find out that nobody listens. The one trial that follows is a request,
//! because a shard may answer probes and still be too slow for lookups.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ShardState;

/// So many lookups at once may fail by bad luck; a shard that is down fails the probe too.
const FAILURES_MAX: u32 = 5;

/// How a lookup or a probe ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Well.
    Answered,
    /// Not; why.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open,
    HalfOpen { trial: Trial },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    Wanted,
    Running,
}

/// The breaker of one shard.
#[derive(Debug)]
pub(super) struct Breaker {
    shard: Arc<str>,
    state: Mutex<State>,
}

impl Breaker {
    /// A closed one, of the shard of this name.
    pub(super) fn new(shard: Arc<str>) -> Self {
        Self { shard, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether a lookup may go to the shard; its outcome has to be noted then.
    pub(super) fn admits(&self) -> bool {
        let mut state = self.locked();
        match *state {
            State::Closed { .. } => true,
            State::HalfOpen { trial: Trial::Wanted } => {
                *state = State::HalfOpen { trial: Trial::Running };
                true
            }
            State::Open | State::HalfOpen { trial: Trial::Running } => false,
        }
    }

    /// Notes how an admitted lookup ended.
    pub(super) fn note(&self, outcome: Outcome) {
        let mut state = self.locked();
        match (*state, outcome) {
            (State::Closed { .. }, Outcome::Answered) => *state = State::Closed { failures: 0 },
            (State::Closed { failures }, Outcome::Failed(_)) if failures + 1 < FAILURES_MAX => {
                *state = State::Closed { failures: failures + 1 };
            }
            (State::Closed { .. } | State::HalfOpen { .. }, Outcome::Failed(why)) => {
                self.open(&mut state, &why);
            }
            (State::HalfOpen { .. }, Outcome::Answered) => {
                *state = State::Closed { failures: 0 };
                tracing::info!(shard = &*self.shard, "the cache shard is used again");
            }
            // A lookup that was under way when the breaker opened: what the next probe says is newer.
            (State::Open, _) => {}
        }
    }

    /// Notes how a probe ended.
    pub(super) fn probed(&self, outcome: Outcome) {
        let mut state = self.locked();
        match (*state, outcome) {
            (State::Open, Outcome::Answered) => *state = State::HalfOpen { trial: Trial::Wanted },
            (State::Closed { .. } | State::HalfOpen { .. }, Outcome::Failed(why)) => {
                self.open(&mut state, &why);
            }
            (State::Closed { .. } | State::HalfOpen { .. }, Outcome::Answered)
            | (State::Open, Outcome::Failed(_)) => {}
        }
    }

    /// Whether lookups are made.
    pub(super) fn state(&self) -> ShardState {
        match *self.locked() {
            State::Closed { .. } => ShardState::Up,
            State::Open | State::HalfOpen { .. } => ShardState::Down,
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, state: &mut State, why: &str) {
        // A trial that fails says nothing new.
        if matches!(state, State::Closed { .. }) {
            let shard = &*self.shard;
            tracing::warn!(
                shard,
                why,
                "the cache shard is left alone until it answers; its texts are computed instead"
            );
        }
        *state = State::Open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::Failed("late".to_owned())
    }

    fn breaker() -> Breaker {
        Breaker::new("a:1".into())
    }

    fn opened() -> Breaker {
        let breaker = breaker();
        breaker.probed(failed());
        assert!(!breaker.admits());
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let breaker = breaker();
        for _ in 0..3 {
            (0..FAILURES_MAX - 1).for_each(|_| breaker.note(failed()));
            assert!(breaker.admits());
            breaker.note(Outcome::Answered);
        }
        (0..FAILURES_MAX).for_each(|_| breaker.note(failed()));
        assert!(!breaker.admits());
        assert_eq!(breaker.state(), ShardState::Down);
    }

    #[test]
    fn an_answered_probe_admits_one_trial_and_its_answer_closes() {
        let breaker = opened();
        breaker.probed(Outcome::Answered);
        assert!(breaker.admits());
        assert!(!breaker.admits(), "one trial at a time");
        breaker.note(Outcome::Answered);
        assert!(breaker.admits() && breaker.admits());
        assert_eq!(breaker.state(), ShardState::Up);
    }

    #[test]
    fn a_failed_trial_waits_for_the_next_probe() {
        let breaker = opened();
        breaker.probed(Outcome::Answered);
        assert!(breaker.admits());
        breaker.note(failed());
        assert!(!breaker.admits());
        breaker.probed(Outcome::Answered);
        assert!(breaker.admits());
    }

    #[test]
    fn a_lookup_that_ends_after_the_opening_changes_nothing() {
        let breaker = opened();
        breaker.note(Outcome::Answered);
        assert!(!breaker.admits());
    }
}

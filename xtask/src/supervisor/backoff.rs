//! How long to wait before a service is started again.

use std::time::Duration;

use super::RestartPolicy;

/// Doubles from `delay_min` to `delay_max`, and begins anew once a service has run for `reset_after`.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RestartPolicy,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        assert!(policy.delay_min <= policy.delay_max, "delay_min is at most delay_max");
        Self { policy, next: policy.delay_min }
    }

    /// Told how long the process ran that has just ended.
    pub(super) fn note_uptime(&mut self, uptime: Duration) {
        if uptime >= self.policy.reset_after {
            self.next = self.policy.delay_min;
        }
    }

    /// The delay before the next start; the one after it is twice as long.
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.policy.delay_max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            delay_min: Duration::from_millis(200),
            delay_max: Duration::from_secs(1),
            reset_after: Duration::from_secs(30),
        }
    }

    #[test]
    fn delay_doubles_up_to_its_bound() {
        let mut backoff = Backoff::new(policy());
        let delays: Vec<u128> = (0..5).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn long_run_resets_the_delay_and_a_short_one_does_not() {
        let mut backoff = Backoff::new(policy());
        backoff.next_delay();
        backoff.note_uptime(Duration::from_secs(29));
        assert_eq!(backoff.next_delay().as_millis(), 400);
        backoff.note_uptime(Duration::from_secs(30));
        assert_eq!(backoff.next_delay().as_millis(), 200);
    }
}

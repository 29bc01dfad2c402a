//! Looks at all services at once: the slowest of them sets how long it takes.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use super::service::{self, Look};
use super::usage::{Snapshot, Usage};
use crate::state::{ServiceState, State};

/// What was found out about one service.
#[derive(Debug)]
pub(super) struct Seen<'s> {
    /// The service.
    pub(super) service: &'s ServiceState,
    /// What it said.
    pub(super) look: Look,
    /// What it uses; none where its process is gone.
    pub(super) usage: Option<Usage>,
}

/// Looks at every service of `state`, in its order. Rates and CPU are those of `window`.
pub(super) fn look_at_all<'s>(state: &'s State, key: Option<&str>, window: Duration) -> Vec<Seen<'s>> {
    let start = Instant::now();
    let before = Snapshot::take();
    let stats_port = state.balancer.as_ref().map(|balancer| balancer.stats_port);
    thread::scope(|scope| {
        let look = |service| scope.spawn(move || service::look(service, stats_port, key, window));
        let looks: Vec<_> = state.services.iter().map(|service| (service, look(service))).collect();
        service::wait_until(start + window);
        let after = Snapshot::take();
        let seen = |(service, look): (&'s ServiceState, thread::ScopedJoinHandle<'_, Look>)| {
            let alive = service.process.filter(|process| process.is_alive());
            let usage = alive.and_then(|process| after.usage_since(&before, process.pid));
            Seen { service, look: look.join().unwrap_or_else(|panic| resume_unwind(panic)), usage }
        };
        looks.into_iter().map(seen).collect()
    })
}

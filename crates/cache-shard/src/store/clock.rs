//! Time as the store sees it: it never goes back.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::sync::atomic::{AtomicU64, Ordering};

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// The system's clock, read once; from then on time passes as the monotonic clock says, so that a step of the system's
/// clock neither expires everything nor makes anything live longer.
#[derive(Debug)]
pub struct SystemClock {
    start_ms: u64,
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start_ms: milliseconds(since), start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(milliseconds(self.start.elapsed()))
    }
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that stands still where the one below it goes back. Where that one is behind the records after a restart, time
/// goes on from the latest of them: what expires in a minute does, whatever year the machine believes it is.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    latest_ms: AtomicU64,
    /// What is added to the clock below.
    ahead_ms: AtomicU64,
}

impl Timeline {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let latest_ms = AtomicU64::new(clock.now_ms());
        Self { clock, latest_ms, ahead_ms: AtomicU64::new(0) }
    }

    pub(super) fn now_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed));
        self.latest_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }

    /// A record says that this moment has been.
    pub(super) fn has_been(&self, moment_ms: u64) {
        let ahead_ms = moment_ms.saturating_sub(self.clock.now_ms());
        self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed);
    }

    /// How far the records are ahead of the clock below.
    pub(super) fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

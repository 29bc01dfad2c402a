//! Waiting for what must happen, with an end.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Whatever takes longer than this counts as hanging: far more than a loaded machine needs, less than the time after
/// which the test runner gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer.
///
/// # Panics
/// With `what`, if there is none within [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "did not happen within {PATIENCE:?}: {what}");
    }
}

/// What `future` gives.
///
/// # Panics
/// With `what`, if it takes longer than [`PATIENCE`].
pub async fn within_patience<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not happen within {PATIENCE:?}: {what}"),
    }
}

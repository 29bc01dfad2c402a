//! How long something takes, by running it again and again.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Fewer runs have no median worth the name.
const RUNS_MIN: usize = 3;

/// The seconds of each run for about `time`, after one that is not counted.
///
/// # Errors
/// That of the first run that fails.
pub(crate) fn seconds(time: Duration, mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    run()?;
    let (begin, mut all) = (Instant::now(), Vec::new());
    while all.len() < RUNS_MIN || begin.elapsed() < time {
        let start = Instant::now();
        run()?;
        all.push(start.elapsed().as_secs_f64());
    }
    Ok(all)
}

//! What clients notice when a shard joins, is lost, and comes back.
//!
//! ```text
//!  16 clients ─ 500 requests/s ─▶ proxy of three ─┬─▶ shard 1, 2, 3        phase 1
//!                               ▶ proxy of four ──┴─▶ shard 1, 2, 3, 4     phase 2: as when proxies are replaced
//!                                                     shard 1 is killed    phase 3
//!                                                     and started again    phase 4
//! ```
//!
//! The proxies keep nothing in their own memory, so a hit is one of the shards, and every text is in a shard before the
//! first phase. Requests come at a rate, not as fast as they are answered: a burst would heal a loss within a second.
//!
//! Goals: hits, failures and wrong vectors of every second, and how long it took until the hit rate was back.

mod grid;
mod load;
mod report;

use anyhow::Result;

use crate::{args::ShardsConfig, progress::Progress};
use grid::Grid;
use load::Load;
use report::{Event, Phase, Report};

/// Starts all, goes through the phases, and ends all.
///
/// # Errors
/// Where something does not start.
pub(crate) async fn measure(config: &ShardsConfig) -> Result<Report> {
    let progress = Progress::wait("starting ml-base, four of cache-shard, two of embedding-single");
    let mut grid = Grid::start(config).await?;
    drop(progress);
    let progress = Progress::wait("computing and storing the texts");
    let load = Load::warmed(config, grid.of_three()).await?;
    drop(progress);
    let mut phases = Vec::new();
    for event in [Event::Nothing, Event::Join, Event::Loss, Event::Return] {
        let _progress = Progress::wait(&format!("{}: {:?}", event.name(), config.seconds));
        let proxy = grid.proxy_during(event);
        let (seconds, happened) = tokio::join!(load.run(proxy), grid.cause(event));
        happened?;
        phases.push(Phase { event, seconds: seconds? });
    }
    Ok(Report::new(config, phases))
}

//! What was promised of the cache, and whether this run keeps it.

use serde::Serialize;

use super::{Footprint, Speed};
use crate::engine::Engine;

/// Vectors from which on a time to ready says something.
const RESTART_ENTRIES: u64 = 1_000_000;

/// A promise and what was found.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    /// What is promised.
    what: &'static str,
    /// How far it may go, or must at least.
    limit: f64,
    /// What was found.
    found: f64,
    /// Whether the promise is kept.
    met: bool,
}

impl Target {
    /// A promise that nothing exceeds `limit`.
    pub(crate) fn at_most(what: &'static str, limit: f64, found: f64) -> Self {
        Self { what, limit, found, met: found <= limit }
    }

    /// A promise that `limit` is reached.
    pub(crate) fn at_least(what: &'static str, limit: f64, found: f64) -> Self {
        Self { what, limit, found, met: found >= limit }
    }

    /// One line of the report.
    pub(crate) fn line(&self) -> String {
        let Self { what, limit, found, met } = self;
        format!("{}: {what} {limit}; found {found:.2}", if *met { "met" } else { "MISSED" })
    }
}

/// The promises this run can say something about.
pub(super) fn compare(speeds: &[Speed], footprints: &[Footprint]) -> Vec<Target> {
    let ours = |batch, hits_percent| {
        speeds.iter().find(move |speed| {
            let is_load = speed.cell.batch.get() == batch && speed.cell.hits_percent == hits_percent;
            is_load && speed.engine == Engine::CacheShard
        })
    };
    let p50 = ours(1, 99).and_then(|speed| speed.p50_by_redis);
    let rate = ours(64, 99).and_then(|speed| speed.keys_by_redis);
    let footprint = footprints.iter().find(|footprint| footprint.engine == Engine::CacheShard);
    let written = footprint.and_then(|footprint| footprint.write_amplification);
    let index = footprint.and_then(|footprint| footprint.index_bytes);
    let restarts = footprint.and_then(|footprint| footprint.restarts);
    let ready = restarts.filter(|restarts| restarts.entries >= RESTART_ENTRIES);
    let ready = ready.map(|restarts| restarts.asked_seconds.max(restarts.killed_seconds));
    let targets = [
        p50.map(|found| Target::at_most("p50 of GetMany of 1 by that of GET of redis, at most", 3.0, found)),
        rate.map(|found| {
            Target::at_least("keys/s of GetMany of 64 by those of MGET of redis, at least", 1.0, found)
        }),
        written.map(|found| Target::at_most("write amplification at 90 % hits, at most", 1.5, found)),
        index.map(|found| Target::at_most("bytes of the index for each vector, at most", 64.0, found)),
        ready.map(|found| Target::at_most("seconds until ready with a million vectors, at most", 2.0, found)),
    ];
    targets.into_iter().flatten().collect()
}

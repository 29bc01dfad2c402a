//! Hit ratios of L1 at equal bytes: the proxy's own L1 under each of its policies, and other caches, on the same traces.
//!
//! ```text
//!  traces ─▶ the same keys ─┬─▶ contestants: L1 (lru, adaptive), LRU with TinyLFU, quick_cache
//!                           └─▶ no bound: what a cache without end would hit
//! ```
//!
//! Nothing is timed and nothing goes over a network, so the figures are those of any machine.

mod contestants;
mod report;
mod tiny_lfu;
mod traces;

use std::{collections::HashSet, thread};

use anyhow::{Context, Result};

use crate::{args::L1Config, keys::Key, progress::Progress};
use contestants::{Contestant, Policy};
use report::{Report, Row};
use traces::Trace;

/// The part of a trace that fills the caches and is not counted.
const WARM_UP_SHARE: usize = 5;

/// Runs every trace through every policy; as a table, or as JSON.
///
/// # Errors
/// Where a policy fails, which none does.
pub(crate) fn run(config: &L1Config) -> Result<String> {
    let mut rows = Vec::new();
    for trace in Trace::ALL {
        let _progress = Progress::wait(&format!("{}: {} keys", trace.name(), config.requests));
        let numbers = trace.numbers(config.requests, config.entries, config.seed);
        let keys: Vec<[u8; 32]> = numbers.into_iter().map(|number| Key::new(number).digest).collect();
        rows.push(Row { trace: trace.name(), unbounded: unbounded(&keys), hit_ratios: all(&keys, config)? });
    }
    Report::new(config, rows).write(config.json)
}

/// One thread a policy: none of them sees the others.
fn all(keys: &[[u8; 32]], config: &L1Config) -> Result<Vec<f64>> {
    thread::scope(|scope| {
        let start = |policy: Policy| scope.spawn(move || hit_ratio(&mut policy.start(config), keys));
        let running: Vec<_> = Policy::ALL.map(start).into_iter().collect();
        running.into_iter().map(|thread| thread.join().ok().context("a policy panicked")).collect()
    })
}

fn hit_ratio(contestant: &mut Contestant, keys: &[[u8; 32]]) -> f64 {
    let (warm_up, counted) = keys.split_at(keys.len() / WARM_UP_SHARE);
    for key in warm_up {
        contestant.ask(key);
    }
    let hits = counted.iter().filter(|key| contestant.ask(key)).count();
    hits as f64 / counted.len().max(1) as f64
}

/// Of a cache that keeps everything.
fn unbounded(keys: &[[u8; 32]]) -> f64 {
    let (warm_up, counted) = keys.split_at(keys.len() / WARM_UP_SHARE);
    let mut seen: HashSet<&[u8; 32]> = warm_up.iter().collect();
    let hits = counted.iter().filter(|key| !seen.insert(key)).count();
    hits as f64 / counted.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> L1Config {
        L1Config { entries: 200, requests: 20_000, width: 384, seed: 1, json: true }
    }

    #[test]
    fn every_policy_has_a_hit_ratio_on_every_trace_and_none_beats_a_cache_without_end() {
        let report: serde_json::Value = serde_json::from_str(&run(&config()).unwrap()).unwrap();
        let rows = report["rows"].as_array().unwrap();
        assert_eq!(rows.len(), Trace::ALL.len());
        for row in rows {
            let most = row["unbounded"].as_f64().unwrap();
            let ratios = row["hit_ratios"].as_array().unwrap();
            assert_eq!(ratios.len(), Policy::ALL.len());
            assert!(ratios.iter().all(|ratio| (0.0..=most).contains(&ratio.as_f64().unwrap())), "{row}");
        }
    }

    #[test]
    fn same_seed_gives_the_same_figures_of_our_own_l1() {
        let keys: Vec<_> =
            Trace::Scans.numbers(5000, 200, 3).into_iter().map(|number| Key::new(number).digest).collect();
        let run = || hit_ratio(&mut Policy::Adaptive.start(&config()), &keys);
        assert_eq!(run().to_bits(), run().to_bits());
    }
}

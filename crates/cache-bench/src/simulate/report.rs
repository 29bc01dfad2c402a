//! The table of hit ratios, and what follows from it.

use anyhow::Result;
use serde::Serialize;

use super::contestants::Policy;
use crate::{args::L1Config, report::table};

/// One trace.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Which one.
    pub(super) trace: &'static str,
    /// Of a cache without a bound.
    pub(super) unbounded: f64,
    /// Of each policy, in their order.
    pub(super) hit_ratios: Vec<f64>,
}

/// All traces.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    entries: usize,
    requests: usize,
    width: usize,
    seed: u64,
    policies: [Policy; 4],
    rows: Vec<Row>,
}

impl Report {
    /// Of a run with `config`.
    pub(super) fn new(config: &L1Config, rows: Vec<Row>) -> Self {
        let L1Config { entries, requests, width, seed, json: _ } = *config;
        Self { entries, requests, width, seed, policies: Policy::ALL, rows }
    }

    /// As JSON on one line, or as a table with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(super) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        let names = Policy::ALL.map(Policy::name);
        let header: Vec<&str> = ["trace"].into_iter().chain(names).chain(["no bound"]).collect();
        let mut lines = vec![table(&header, self.rows.iter().map(Row::cells), 1).to_string()];
        lines.extend(names.iter().enumerate().skip(1).map(|(index, name)| self.beside_lru(index, name)));
        let Self { entries, requests, width, seed, .. } = self;
        lines.push(format!(
            "% of {requests} keys a trace that were there, the first fifth not counted; room for {entries} vectors of \
             {width} numbers, the same bytes for all; seed {seed}"
        ));
        Ok(lines.join("\n"))
    }

    /// How a policy stands against plain LRU.
    fn beside_lru(&self, index: usize, name: &str) -> String {
        let points = self.rows.iter().filter_map(|row| {
            Some((100.0 * (row.hit_ratios.get(index)? - row.hit_ratios.first()?), row.trace))
        });
        let points: Vec<(f64, &str)> = points.collect();
        let by_points = |one: &&(f64, &str), other: &&(f64, &str)| one.0.total_cmp(&other.0);
        let shown = |found: Option<&(f64, &str)>| {
            found.map_or_else(String::new, |(points, trace)| format!("{points:+.1} points ({trace})"))
        };
        let (least, most) = (points.iter().min_by(by_points), points.iter().max_by(by_points));
        format!("{name} beside lru: from {} to {}", shown(least), shown(most))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let ratios = self.hit_ratios.iter().chain([&self.unbounded]);
        let shown = ratios.map(|ratio| format!("{:.1}", 100.0 * ratio));
        std::iter::once(self.trace.to_owned()).chain(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_tells_every_ratio_and_the_distance_from_lru() {
        let config = L1Config { entries: 10, requests: 100, width: 384, seed: 1, json: false };
        let row = |trace, tiny_lfu| Row { trace, unbounded: 0.9, hit_ratios: vec![0.5, 0.5, tiny_lfu, 0.5] };
        let text = Report::new(&config, vec![row("a", 0.53), row("b", 0.49)]).write(false).unwrap();
        let line = "lru + TinyLFU beside lru: from -1.0 points (b) to +3.0 points (a)";
        assert!(text.contains(line) && text.contains("53.0") && text.contains("90.0"), "{text}");
    }
}

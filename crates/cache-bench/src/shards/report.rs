//! The phases as a table, and what was promised of them.

use anyhow::Result;
use serde::Serialize;

use super::load::Second;
use crate::{
    args::ShardsConfig,
    machine::Machine,
    report::{shown, table, targets::Target},
};

/// The hit rate is back where it is this near to what it was, in points.
const BACK_WITHIN_POINTS: f64 = 1.0;

/// What begins a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// Three shards, as they were.
    Nothing,
    /// Clients ask a proxy that knows a fourth, which is empty.
    Join,
    /// One of the four is killed.
    Loss,
    /// It is started again, over its own disk.
    Return,
}

impl Event {
    /// As the table calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "three shards",
            Self::Join => "a fourth joins",
            Self::Loss => "one is killed",
            Self::Return => "it comes back",
        }
    }
}

/// One phase.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    /// What it began with.
    pub(super) event: Event,
    /// In their order.
    pub(super) seconds: Vec<Second>,
}

/// All phases.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    texts: usize,
    requests_per_second: u32,
    join_window_seconds: f64,
    rows: Vec<Row>,
    targets: Vec<Target>,
    /// Answers that were not the vector of their text.
    pub(crate) wrong: u64,
    phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
struct Row {
    phase: &'static str,
    answered: u64,
    hits_percent: f64,
    /// Of the worst second.
    hits_percent_min: f64,
    /// Until the hit rate was that of the phase before again; none where it was not.
    seconds_until_back: Option<usize>,
    longest_ms: f64,
    failed: u64,
    wrong: u64,
}

impl Report {
    /// Computes the figures of `phases`, of which there is at least one.
    pub(super) fn new(config: &ShardsConfig, phases: Vec<Phase>) -> Self {
        let normal = phases.first().map_or(100.0, |phase| rate(&phase.seconds));
        let rows: Vec<Row> = phases.iter().map(|phase| Row::new(phase, normal)).collect();
        Self {
            machine: Machine::here(),
            texts: config.texts,
            requests_per_second: config.rate,
            join_window_seconds: config.join_window.as_secs_f64(),
            targets: promises(&phases, &rows, normal),
            wrong: rows.iter().map(|row| row.wrong).sum(),
            rows,
            phases,
        }
    }

    /// As JSON on one line, or as a table with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(crate) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        let header =
            ["phase", "answered", "hits", "worst second", "back after", "longest", "failed", "wrong"];
        let mut lines = vec![table(&header, self.rows.iter().map(Row::cells), 1).to_string()];
        lines.extend(self.targets.iter().map(Target::line));
        let Self { texts, requests_per_second, join_window_seconds, .. } = self;
        lines.push(format!(
            "{texts} texts, {requests_per_second} requests/s of one text each; nothing in the proxies' own memory; \
             join window {join_window_seconds} s"
        ));
        let Machine { cpu, cores } = &self.machine;
        lines.push(format!("clients and all services share {cores} cores of {cpu}"));
        Ok(lines.join("\n"))
    }
}

fn promises(phases: &[Phase], rows: &[Row], normal: f64) -> Vec<Target> {
    let row = |event| phases.iter().position(|phase| phase.event == event).and_then(|index| rows.get(index));
    let mut targets = Vec::new();
    if let Some(join) = row(Event::Join) {
        targets.push(Target::at_most(
            "points of hit rate that a join costs in its worst second, at most",
            5.0,
            normal - join.hits_percent_min,
        ));
        let back = join.seconds_until_back.map_or(f64::INFINITY, |seconds| seconds as f64);
        targets.push(Target::at_most("seconds until it is back, at most", 60.0, back));
    }
    let failed = rows.iter().map(|row| row.failed).sum::<u64>();
    targets.push(Target::at_most("failed requests in all phases, at most", 0.0, failed as f64));
    targets
}

impl Row {
    fn new(phase: &Phase, normal: f64) -> Self {
        let seconds = &phase.seconds;
        let sum = |of: fn(&Second) -> u64| seconds.iter().map(of).sum();
        Self {
            phase: phase.event.name(),
            answered: sum(|second| second.answered),
            hits_percent: rate(seconds),
            hits_percent_min: worst(seconds),
            seconds_until_back: until_back(seconds, normal),
            longest_ms: seconds.iter().map(|second| second.longest_ms).fold(0.0, f64::max),
            failed: sum(|second| second.failed),
            wrong: sum(|second| second.wrong),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.phase.to_owned(),
            self.answered.to_string(),
            format!("{:.1} %", self.hits_percent),
            format!("{:.1} %", self.hits_percent_min),
            shown(self.seconds_until_back, |seconds| format!("{seconds} s")),
            format!("{:.0} ms", self.longest_ms),
            self.failed.to_string(),
            self.wrong.to_string(),
        ]
    }
}

/// Hits of a hundred answers; seconds without any count for nothing.
fn rate(seconds: &[Second]) -> f64 {
    let answered: u64 = seconds.iter().map(|second| second.answered).sum();
    let hits: u64 = seconds.iter().map(|second| second.hits).sum();
    100.0 * hits as f64 / answered.max(1) as f64
}

fn worst(seconds: &[Second]) -> f64 {
    let answered = seconds.iter().filter(|second| second.answered > 0);
    answered.map(|second| rate(&[*second])).fold(100.0, f64::min)
}

/// Seconds up to the last that was worse than `normal`; none where that is the last of all.
fn until_back(seconds: &[Second], normal: f64) -> Option<usize> {
    let is_low = |second: &Second| second.answered > 0 && rate(&[*second]) < normal - BACK_WITHIN_POINTS;
    let low = seconds.iter().rposition(is_low).map_or(0, |last| last + 1);
    (low < seconds.len()).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(hits: &[u64]) -> Vec<Second> {
        let second = |hits: &u64| Second { answered: 100, hits: *hits, ..Second::default() };
        hits.iter().map(second).collect()
    }

    #[test]
    fn the_hit_rate_is_back_after_the_last_second_that_was_low() {
        assert_eq!(until_back(&seconds(&[100, 100]), 100.0), Some(0));
        assert_eq!(until_back(&seconds(&[100, 70, 99, 80, 99, 100]), 100.0), Some(4));
        assert_eq!(until_back(&seconds(&[100, 70]), 100.0), None);
    }

    #[test]
    fn a_second_without_an_answer_is_not_the_worst() {
        let all = [seconds(&[90, 80]), vec![Second { failed: 3, ..Second::default() }]].concat();
        assert_eq!((worst(&all), rate(&all)), (80.0, 85.0));
    }

    #[test]
    fn promises_that_are_not_kept_are_named() {
        let phase = |event, hits: &[u64]| Phase { event, seconds: seconds(hits) };
        let mut phases = vec![phase(Event::Nothing, &[100; 3]), phase(Event::Join, &[100, 90, 100])];
        phases[1].seconds[0].failed = 1;
        let rows: Vec<_> = phases.iter().map(|phase| Row::new(phase, 100.0)).collect();
        let lines: Vec<_> = promises(&phases, &rows, 100.0).iter().map(Target::line).collect();
        assert_eq!(
            lines,
            [
                "MISSED: points of hit rate that a join costs in its worst second, at most 5; found 10.00",
                "met: seconds until it is back, at most 60; found 2.00",
                "MISSED: failed requests in all phases, at most 0; found 1.00",
            ]
        );
    }
}

//! The table of ways to ask, and what was promised of them.

use anyhow::Result;
use serde::Serialize;

use super::Way;
use crate::{
    machine::Machine,
    report::{median, shown, table, targets::Target},
};

/// How it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    /// Clients at once.
    pub(super) clients: u16,
    /// Turns of each.
    pub(super) rounds: usize,
    /// Length of a turn.
    pub(super) seconds: f64,
}

/// All ways.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    setting: Setting,
    machine: Machine,
    rows: Vec<Row>,
    targets: Vec<Target>,
    /// Answers that were not what they should be.
    #[serde(rename = "wrong_answers")]
    pub(super) wrong: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    way: &'static str,
    requests_per_second: f64,
    requests_per_second_min: f64,
    requests_per_second_max: f64,
    us_p50: f64,
    us_p99: f64,
}

impl Report {
    /// Computes the figures.
    pub(super) fn new(setting: Setting, ways: &[Way]) -> Self {
        let rows: Vec<Row> = ways.iter().map(Row::new).collect();
        let wrong = ways.iter().map(|way| way.record.wrong).sum();
        let targets = compare(&rows);
        Self { setting, machine: Machine::here(), rows, targets, wrong }
    }

    /// As JSON on one line, or as a table with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(super) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        let header = [
            "a hit by",
            "requests/s",
            "min–max",
            "p50 µs",
            "p99 µs",
            "requests/s by bare",
            "p50 by bare",
            "p50 by redis",
        ];
        let rows = self.rows.iter().map(|row| self.cells(row));
        let mut lines = vec![table(&header, rows, 1).to_string()];
        lines.extend(self.targets.iter().map(Target::line));
        let Setting { clients, rounds, seconds } = self.setting;
        let Machine { cpu, cores } = &self.machine;
        lines.push(format!(
            "{clients} clients in a closed loop, a connection and a text each; medians of {rounds} round(s) of {seconds} s in turns"
        ));
        lines.push(format!("clients and servers share {cores} cores of {cpu}"));
        if self.wrong > 0 {
            lines.push(format!("WRONG: {} answers were not what they should be", self.wrong));
        }
        Ok(lines.join("\n"))
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let bare = find(&self.rows, "bare handler").filter(|_| !row.way.ends_with("no HTTP"));
        let redis = find(&self.rows, "redis GET, no HTTP").filter(|_| !row.way.starts_with("bare"));
        let ratio = |value: Option<f64>| shown(value, |value| format!("{value:.2}"));
        vec![
            row.way.to_owned(),
            format!("{:.0}", row.requests_per_second),
            format!("{:.0}–{:.0}", row.requests_per_second_min, row.requests_per_second_max),
            format!("{:.0}", row.us_p50),
            format!("{:.0}", row.us_p99),
            ratio(bare.map(|bare| row.requests_per_second / bare.requests_per_second)),
            ratio(bare.map(|bare| row.us_p50 / bare.us_p50)),
            ratio(redis.map(|redis| row.us_p50 / redis.us_p50)),
        ]
    }
}

fn find<'a>(rows: &'a [Row], way: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.way == way)
}

fn compare(rows: &[Row]) -> Vec<Target> {
    let mut targets = Vec::new();
    if let (Some(l1), Some(bare)) = (find(rows, "L1 hit"), find(rows, "bare handler")) {
        let rate = l1.requests_per_second / bare.requests_per_second;
        targets.push(Target::at_least(
            "requests/s of an L1 hit by those of a bare handler, at least",
            0.6,
            rate,
        ));
        let p50 = l1.us_p50 / bare.us_p50;
        targets.push(Target::at_most("p50 of an L1 hit by that of a bare handler, at most", 2.0, p50));
    }
    if let Some(redis) = find(rows, "redis GET, no HTTP") {
        let p50 = |way| find(rows, way).map(|row| row.us_p50 / redis.us_p50);
        let direct = p50("GetMany of 1, no HTTP");
        targets
            .extend(direct.map(|p50| {
                Target::at_most("p50 of GetMany of 1 by that of GET of redis, at most", 3.0, p50)
            }));
        let through = p50("L2 hit");
        targets.extend(through.map(|p50| {
            Target::at_most("p50 of an L2 hit through HTTP by that of GET of redis, at most", 3.0, p50)
        }));
    }
    targets
}

impl Row {
    fn new(way: &Way) -> Self {
        let fold = |from, take: fn(f64, f64) -> f64| way.rates.iter().copied().fold(from, take);
        Self {
            way: way.name,
            requests_per_second: median(&way.rates),
            requests_per_second_min: fold(f64::INFINITY, f64::min),
            requests_per_second_max: fold(0.0, f64::max),
            us_p50: way.record.get_us(0.5),
            us_p99: way.record.get_us(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::Record;

    fn way(name: &'static str, rate: f64, us: u64) -> Way {
        let mut record = Record::new().unwrap();
        record.add_get(Duration::from_micros(us)).unwrap();
        let mut way = Way::new(name, Vec::new()).unwrap();
        way.rates = vec![rate];
        way.record = record;
        way
    }

    #[test]
    fn l1_is_compared_with_the_bare_handler_and_l2_with_redis() {
        let ways = [
            way("bare handler", 1000.0, 100),
            way("L1 hit", 500.0, 150),
            way("L2 hit", 100.0, 900),
            way("GetMany of 1, no HTTP", 300.0, 220),
            way("redis GET, no HTTP", 900.0, 110),
        ];
        let report = Report::new(Setting { clients: 8, rounds: 1, seconds: 1.0 }, &ways);
        let text = report.write(false).unwrap();
        for expected in [
            "MISSED: requests/s of an L1 hit by those of a bare handler, at least 0.6; found 0.50",
            "met: p50 of an L1 hit by that of a bare handler, at most 2; found 1.50",
            "met: p50 of GetMany of 1 by that of GET of redis, at most 3; found 2.00",
            "MISSED: p50 of an L2 hit through HTTP by that of GET of redis, at most 3; found 8.18",
        ] {
            assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&report.write(true).unwrap()).unwrap();
        assert_eq!(json["wrong_answers"], 0);
    }
}

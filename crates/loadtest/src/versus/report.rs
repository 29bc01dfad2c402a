//! Two servers side by side, and by how much one is ahead.

use serde::Serialize;

use crate::report::{Form, Report, table};

/// What was measured of one server.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// The path it was asked at.
    pub(crate) api: &'static str,
    /// A rate for each round.
    #[serde(rename = "rounds_texts_per_second")]
    pub(crate) texts_per_second: Vec<f64>,
    /// Requests that failed in all rounds.
    #[serde(skip)]
    pub(crate) errors: u64,
    /// All rounds together.
    #[serde(flatten)]
    pub(crate) report: Report,
}

/// Both servers and ours by the peer's.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    ours: Measured,
    peer: Measured,
    /// Of the medians of the rounds: above 1, ours is ahead.
    texts_per_second_by_peer: f64,
    /// Below 1, ours is ahead.
    p50_by_peer: f64,
    /// Below 1, ours is ahead.
    p99_by_peer: f64,
}

impl Comparison {
    /// Computes the ratios.
    pub(crate) fn new(ours: Measured, peer: Measured) -> Self {
        Self {
            texts_per_second_by_peer: median(&ours.texts_per_second) / median(&peer.texts_per_second),
            p50_by_peer: ours.report.latency_ms.p50 / peer.report.latency_ms.p50,
            p99_by_peer: ours.report.latency_ms.p99 / peer.report.latency_ms.p99,
            ours,
            peer,
        }
    }

    /// The comparison in the form asked for.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub(crate) fn write(&self, form: Form) -> anyhow::Result<String> {
        match form {
            Form::Json => Ok(serde_json::to_string(self)?),
            Form::Table => self.to_text(),
        }
    }

    fn to_text(&self) -> anyhow::Result<String> {
        let header =
            ["server", "asked at", "requests", "errors", "texts/s", "min–max", "p50 ms", "p95 ms", "p99 ms"];
        let ratios = [
            "ours by peer".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            format!("{:.2}", self.texts_per_second_by_peer),
            String::new(),
            format!("{:.2}", self.p50_by_peer),
            String::new(),
            format!("{:.2}", self.p99_by_peer),
        ];
        let rows = [
            header.map(str::to_owned).to_vec(),
            self.ours.cells("ours"),
            self.peer.cells("peer"),
            ratios.to_vec(),
        ];
        let rounds = self.ours.texts_per_second.len();
        let mut lines = vec![
            table(&rows).to_string(),
            format!("texts/s is the median of {rounds} rounds in turns, latencies are those of all rounds"),
        ];
        for (name, side) in [("ours", &self.ours), ("peer", &self.peer)] {
            lines.push(format!("{name}:"));
            lines.push(side.report.details()?);
        }
        Ok(lines.join("\n"))
    }
}

impl Measured {
    fn cells(&self, name: &str) -> Vec<String> {
        let rates = &self.texts_per_second;
        let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = rates.iter().copied().fold(0.0, f64::max);
        let latency = &self.report.latency_ms;
        vec![
            name.to_owned(),
            self.api.to_owned(),
            self.report.requests.to_string(),
            self.errors.to_string(),
            format!("{:.1}", median(rates)),
            format!("{lowest:.1}–{highest:.1}"),
            format!("{:.2}", latency.p50),
            format!("{:.2}", latency.p95),
            format!("{:.2}", latency.p99),
        ]
    }
}

/// The middle one, or the mean of the two in the middle; not a number of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}

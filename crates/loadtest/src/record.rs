//! What was measured: one record a client, merged at the end.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::client::Outcome;

/// Digits of a latency that are kept.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies, counts and errors of one phase.
#[derive(Debug)]
pub(crate) struct Record {
    /// Microseconds of answers and timeouts; other errors come back too fast or too slow to say anything.
    latencies: Histogram<u64>,
    /// Requests that got their vectors.
    pub(crate) requests: u64,
    /// Texts of those requests.
    pub(crate) texts: u64,
    /// Texts that came out of a cache.
    pub(crate) hits: u64,
    /// Requests that failed, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Record {
    /// Nothing measured yet.
    ///
    /// # Errors
    /// Never with the digits used here; the histogram checks them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new(SIGNIFICANT_DIGITS)?;
        Ok(Self { latencies, requests: 0, texts: 0, hits: 0, errors: BTreeMap::new() })
    }

    /// Counts one request of `texts` texts.
    ///
    /// # Errors
    /// Where the latency is too long for the histogram, which grows as needed.
    pub(crate) fn add(&mut self, outcome: Outcome, texts: usize, latency: Duration) -> anyhow::Result<()> {
        let latency_us = u64::try_from(latency.as_micros())?;
        match outcome {
            Outcome::Answered { hits } => {
                self.requests += 1;
                self.texts += texts as u64;
                self.hits += hits;
                self.latencies.record(latency_us)?;
            }
            Outcome::TimedOut => {
                self.latencies.record(latency_us)?;
                *self.errors.entry("timeout".to_owned()).or_default() += 1;
            }
            Outcome::Failed(kind) => *self.errors.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    /// Adds what another client measured.
    ///
    /// # Errors
    /// Where the histograms do not fit together.
    pub(crate) fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.requests += other.requests;
        self.texts += other.texts;
        self.hits += other.hits;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        Ok(())
    }

    /// The latency that this part of all requests did not exceed, in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_count_as_latency_and_as_error_while_refusals_are_only_errors() {
        let mut record = Record::new().unwrap();
        record.add(Outcome::Answered { hits: 1 }, 2, Duration::from_millis(10)).unwrap();
        record.add(Outcome::Failed("429 overloaded".to_owned()), 2, Duration::from_micros(1)).unwrap();
        let mut other = Record::new().unwrap();
        other.add(Outcome::TimedOut, 2, Duration::from_secs(30)).unwrap();
        other.add(Outcome::Failed("429 overloaded".to_owned()), 2, Duration::from_micros(1)).unwrap();
        record.merge(other).unwrap();
        assert_eq!((record.requests, record.texts, record.hits, record.failed()), (1, 2, 1, 3));
        assert_eq!(record.errors["429 overloaded"], 2);
        assert!((record.latency_ms(0.0) - 10.0).abs() < 0.1, "no refusal among the latencies");
        assert!((record.latency_ms(1.0) - 30_000.0).abs() < 30.0);
    }
}

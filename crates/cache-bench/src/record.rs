//! What was measured: one record a client, merged at the end of a turn, and again at the end of all turns.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// Digits of a latency that are kept.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies and counts.
#[derive(Debug)]
pub(crate) struct Record {
    /// Nanoseconds of each request to read.
    gets: Histogram<u64>,
    /// Nanoseconds of each request to write.
    puts: Histogram<u64>,
    /// Keys asked for.
    pub(crate) keys: u64,
    /// Keys that were there.
    pub(crate) hits: u64,
    /// Keys put because they were not.
    pub(crate) put_keys: u64,
    /// Vectors that were not those of their keys. There is no excuse for one.
    pub(crate) wrong: u64,
}

impl Record {
    /// Nothing measured yet.
    ///
    /// # Errors
    /// Never with the digits used here; the histogram checks them.
    pub(crate) fn new() -> Result<Self> {
        let histogram = || Histogram::new(SIGNIFICANT_DIGITS);
        Ok(Self { gets: histogram()?, puts: histogram()?, keys: 0, hits: 0, put_keys: 0, wrong: 0 })
    }

    /// Counts a request to read.
    ///
    /// # Errors
    /// Where it took too long for the histogram, which grows as needed.
    pub(crate) fn add_get(&mut self, took: Duration) -> Result<()> {
        Ok(self.gets.record(u64::try_from(took.as_nanos())?)?)
    }

    /// Counts a request to write.
    ///
    /// # Errors
    /// Where it took too long for the histogram, which grows as needed.
    pub(crate) fn add_put(&mut self, took: Duration, keys: usize) -> Result<()> {
        self.put_keys += keys as u64;
        Ok(self.puts.record(u64::try_from(took.as_nanos())?)?)
    }

    /// Adds what another client or turn measured.
    ///
    /// # Errors
    /// Where the histograms do not fit together.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        self.gets.add(&other.gets)?;
        self.puts.add(&other.puts)?;
        self.keys += other.keys;
        self.hits += other.hits;
        self.put_keys += other.put_keys;
        self.wrong += other.wrong;
        Ok(())
    }

    /// Microseconds that this part of all requests to read did not exceed.
    pub(crate) fn get_us(&self, quantile: f64) -> f64 {
        self.gets.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Microseconds that this part of all requests to write did not exceed; none where none was sent.
    pub(crate) fn put_us(&self, quantile: f64) -> Option<f64> {
        (!self.puts.is_empty()).then(|| self.puts.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The part of all keys that were there.
    pub(crate) fn hit_ratio(&self) -> f64 {
        self.hits as f64 / self.keys.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_two_clients_add_up() {
        let (mut one, mut other) = (Record::new().unwrap(), Record::new().unwrap());
        one.add_get(Duration::from_micros(10)).unwrap();
        one.keys = 4;
        one.hits = 1;
        other.add_get(Duration::from_micros(30)).unwrap();
        other.add_put(Duration::from_micros(50), 2).unwrap();
        other.keys = 4;
        one.merge(&other).unwrap();
        assert_eq!((one.keys, one.put_keys, one.hit_ratio()), (8, 2, 0.125));
        assert!((one.get_us(1.0) - 30.0).abs() < 0.1 && (one.put_us(0.5).unwrap() - 50.0).abs() < 0.1);
    }

    #[test]
    fn nothing_put_has_no_latency() {
        assert_eq!(Record::new().unwrap().put_us(0.5), None);
    }
}

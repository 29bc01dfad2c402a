//! The rate that the arithmetic of this machine reaches with nothing around it, measured between the turns.

use std::num::NonZeroUsize;
use std::time::Duration;

use kernels::Tier;
use serde::Serialize;

const TIME_PER_MEASUREMENT: Duration = Duration::from_millis(100);

/// The best rate seen so far of a tier on some threads at once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Peak {
    #[serde(rename = "instructions", serialize_with = "name")]
    tier: Tier,
    threads: NonZeroUsize,
    /// Operations a second of all threads together, a multiply-add as two.
    operations_per_second: f64,
}

fn name<S: serde::Serializer>(tier: &Tier, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(tier.name())
}

/// The peaks of all that takes part.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Peaks(Vec<Peak>);

impl Peaks {
    /// Has the peak of what an engine computes with measured from now on.
    pub(crate) fn watch(&mut self, computes_with: &str, threads: NonZeroUsize) {
        let tier = tier(computes_with);
        if !self.0.iter().any(|peak| (peak.tier, peak.threads) == (tier, threads)) {
            self.0.push(Peak { tier, threads, operations_per_second: 0.0 });
        }
    }

    /// Measures all once more; the best counts, because what is slower measures the neighbours.
    pub(crate) fn measure(&mut self) {
        for peak in &mut self.0 {
            let rate = on_threads(peak.tier, peak.threads);
            peak.operations_per_second = peak.operations_per_second.max(rate);
        }
    }

    /// Operations a second of what an engine computes with.
    pub(crate) fn operations_per_second(&self, computes_with: &str, threads: NonZeroUsize) -> Option<f64> {
        let tier = tier(computes_with);
        let found = self.0.iter().find(|peak| (peak.tier, peak.threads) == (tier, threads));
        found.map(|peak| peak.operations_per_second)
    }

    /// A line for each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |peak: &Peak| {
            let (name, threads) = (peak.tier.name(), peak.threads);
            format!(
                "peak of {name} on {threads} thread(s): {:.0} GFLOP/s, operands in the L1 cache",
                peak.operations_per_second / 1e9
            )
        };
        self.0.iter().map(line).collect()
    }
}

fn tier(computes_with: &str) -> Tier {
    Tier::force(computes_with).unwrap_or_else(|_| Tier::detect())
}

fn on_threads(tier: Tier, threads: NonZeroUsize) -> f64 {
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads.get()).map(|_| scope.spawn(|| kernels::peak(tier, TIME_PER_MEASUREMENT))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).sum()
    })
}

//! The rate that the arithmetic of this machine reaches with nothing around it, measured between the turns.

use std::num::NonZeroUsize;
use std::time::Duration;

use kernels::Tier;
use serde::Serialize;

const TIME_PER_MEASUREMENT: Duration = Duration::from_millis(100);

/// The best rate seen so far of some instructions on some threads at once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Peak {
    instructions: &'static str,
    threads: NonZeroUsize,
    /// Operations a second of all threads together, a multiply-add as two.
    operations_per_second: f64,
}

/// The peaks of all that takes part.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Peaks(Vec<Peak>);

impl Peaks {
    /// Has the peak of what an engine computes with measured from now on.
    pub(crate) fn watch(&mut self, instructions: &'static str, threads: NonZeroUsize) {
        if !self.0.iter().any(|peak| (peak.instructions, peak.threads) == (instructions, threads)) {
            self.0.push(Peak { instructions, threads, operations_per_second: 0.0 });
        }
    }

    /// Measures all once more; the best counts, because what is slower measures the neighbours.
    pub(crate) fn measure(&mut self) {
        for peak in &mut self.0 {
            let rate = on_threads(peak.instructions, peak.threads);
            peak.operations_per_second = peak.operations_per_second.max(rate);
        }
    }

    /// Operations a second of what an engine computes with.
    pub(crate) fn operations_per_second(&self, instructions: &str, threads: NonZeroUsize) -> Option<f64> {
        let found = self.0.iter().find(|peak| (peak.instructions, peak.threads) == (instructions, threads));
        found.map(|peak| peak.operations_per_second)
    }

    /// A line for each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |peak: &Peak| {
            let Peak { instructions, threads, operations_per_second } = peak;
            let rate = operations_per_second / 1e9;
            format!(
                "peak of {instructions} on {threads} thread(s): {rate:.0} Gop/s, operands in the L1 cache"
            )
        };
        self.0.iter().map(line).collect()
    }
}

/// The sum of all threads; 0 where this CPU lacks the instructions.
fn on_threads(instructions: &str, threads: NonZeroUsize) -> f64 {
    let measure = || match Tier::force(instructions) {
        Ok(tier) => kernels::peak(tier, TIME_PER_MEASUREMENT),
        Err(_) => Tier::available()
            .into_iter()
            .find(|tier| tier.int8_name() == instructions)
            .map_or(0.0, |tier| kernels::peak_int8(tier, TIME_PER_MEASUREMENT)),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(measure)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).sum()
    })
}

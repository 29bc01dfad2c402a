//! The turns: every contestant once, then all again, so that what the machine does meanwhile meets each of them.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::contestant::Contestant;
use crate::figures::Agreement;
use crate::memory::Memory;
use crate::peak::Peaks;
use crate::texts::Order;

/// Short queries before those that are timed, and in each turn.
const QUERIES_WARM_UP: usize = 20;
const QUERIES: usize = 200;

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The engine of this workspace.
    Ours,
    /// What somebody else would use.
    Peer,
}

/// Who takes part and how.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Label {
    /// Whose code it is.
    pub(crate) side: Side,
    /// What the table calls it.
    pub(crate) name: String,
    /// The tier of our kernels; none of a peer.
    pub(crate) computes_with: Option<&'static str>,
    /// Threads it computes with.
    pub(crate) threads: NonZeroUsize,
    /// Batch size and what else was chosen for it.
    pub(crate) setting: String,
}

/// A contestant, the orders it runs and what came of it.
pub(crate) struct Entry {
    pub(crate) label: Label,
    pub(crate) contestant: Box<dyn Contestant>,
    /// The measurements of each order, a second count a turn.
    pub(crate) runs: Vec<(Order, Vec<f64>)>,
    /// Seconds of each short query.
    pub(crate) queries: Vec<f64>,
    /// How near its vectors are to the reference.
    pub(crate) agreement: Option<Agreement>,
    /// What it keeps in memory, where that was asked for.
    pub(crate) memory: Option<Memory>,
    /// Why it takes no more turns.
    pub(crate) failed: Option<String>,
}

impl Entry {
    /// Takes part in `orders`.
    pub(crate) fn new(label: Label, orders: &[Order], contestant: Box<dyn Contestant>) -> Self {
        let runs = orders.iter().map(|order| (*order, Vec::new())).collect();
        Self { label, contestant, runs, queries: Vec::new(), agreement: None, memory: None, failed: None }
    }

    /// Everything once, not timed; its vectors are compared.
    fn warm_up(&mut self, reference: &[Vec<f32>]) -> Result<()> {
        self.agreement = Agreement::of(reference, &self.contestant.vectors()?);
        self.contestant.query(QUERIES_WARM_UP)?;
        Ok(())
    }

    fn take_turn(&mut self) -> Result<()> {
        for (order, seconds) in &mut self.runs {
            seconds.push(self.contestant.run(*order)?.as_secs_f64());
        }
        self.contestant.query(QUERIES_WARM_UP)?;
        self.queries.extend(self.contestant.query(QUERIES)?.iter().map(Duration::as_secs_f64));
        Ok(())
    }
}

/// Gives each of `entries` a turn in each of `rounds`; the peaks are measured in each round as well.
///
/// # Errors
/// Where ours fails. A peer that fails keeps its error and takes no more turns.
pub(crate) fn take_turns(
    entries: &mut [Entry],
    rounds: NonZeroUsize,
    reference: &[Vec<f32>],
    peaks: &mut Peaks,
) -> Result<()> {
    let bar = ProgressBar::new((entries.len() * (rounds.get() + 1)) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {msg}")?);
    for round in 0..=rounds.get() {
        peaks.measure();
        for entry in entries.iter_mut().filter(|entry| entry.failed.is_none()) {
            let Label { name, threads, .. } = &entry.label;
            bar.set_message(format!("round {round} of {rounds}: {name}, {threads} thread(s)"));
            let done = if round == 0 { entry.warm_up(reference) } else { entry.take_turn() };
            bar.inc(1);
            match (done, entry.label.side) {
                (Ok(()), _) => {}
                (Err(error), Side::Peer) => entry.failed = Some(format!("{error:#}")),
                (Err(error), Side::Ours) => return Err(error),
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

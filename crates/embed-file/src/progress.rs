//! What the person at the terminal sees: a bar or a plain line now and then, failed lines, a summary.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

/// Failed lines that are shown one by one; the rest is counted.
const FAILURES_SHOWN_MAX: u64 = 20;

/// How the summary is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SummaryForm {
    /// One sentence on standard error.
    Sentence,
    /// One JSON object on standard output.
    Json,
}

/// Numbers of a finished run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    texts: u64,
    failed: u64,
    texts_per_second: f64,
    hit_rate: f64,
    seconds: f64,
    out: String,
}

/// Counts and shows.
pub(crate) struct Progress {
    total: Option<u64>,
    done: u64,
    failed: u64,
    hits: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts the clock; `total` is the number of lines where it is known.
    pub(crate) fn start(total: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| new_bar(total));
        Self { total, done: 0, failed: 0, hits: 0, started: Instant::now(), bar }
    }

    /// Counts `texts` that came back, `hits` of them from a cache.
    pub(crate) fn add(&mut self, texts: u64, hits: u64) {
        self.done += texts;
        self.hits += hits;
        self.draw();
    }

    /// Counts and shows a failed text.
    pub(crate) fn fail(&mut self, line: u64, sentence: &str) {
        self.failed += 1;
        if self.failed <= FAILURES_SHOWN_MAX {
            self.say(&format!("line {line}: {sentence}"));
        }
        if self.failed == FAILURES_SHOWN_MAX {
            self.say("further failed lines are only counted");
        }
    }

    /// Shows where the run is, also while nothing comes back: a line of its own where there is no bar.
    pub(crate) fn tick(&self) {
        if self.bar.is_some() {
            return self.draw();
        }
        let total = self.total.map(|total| format!("/{total}")).unwrap_or_default();
        say(&format!("{}{total} texts, {}", self.done, self.status()));
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.status());
            bar.set_position(self.done);
        }
    }

    /// Texts without a vector.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Ends the display and shows the summary.
    pub(crate) fn finish(self, out: String, form: SummaryForm) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let summary = self.summary(out);
        match form {
            SummaryForm::Sentence => say(&summary.sentence()),
            SummaryForm::Json => {
                let line = serde_json::to_string(&summary).unwrap_or_default();
                writeln!(io::stdout(), "{line}").ok();
            }
        }
    }

    fn summary(&self, out: String) -> Summary {
        let seconds = self.started.elapsed().as_secs_f64();
        Summary {
            texts: self.done,
            failed: self.failed,
            texts_per_second: self.texts_per_second(),
            hit_rate: self.hit_rate(),
            seconds,
            out,
        }
    }

    fn say(&self, sentence: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(sentence)),
            None => say(sentence),
        }
    }

    fn texts_per_second(&self) -> f64 {
        self.done as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Part of the texts with a vector that a cache answered.
    fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.done.saturating_sub(self.failed).max(1) as f64
    }

    fn status(&self) -> String {
        let rate = self.texts_per_second();
        let mut status = format!("{rate:.0} texts/s, {:.1} % hits", 100.0 * self.hit_rate());
        // Of a run without an answer nobody knows how long it takes.
        if let Some(total) = self.total.filter(|_| self.done > 0) {
            let left = total.saturating_sub(self.done) as f64 / rate.max(1e-9);
            let left = Duration::try_from_secs_f64(left.ceil()).unwrap_or(Duration::MAX);
            status = format!("{status}, {} left", indicatif::HumanDuration(left));
        }
        if self.failed > 0 {
            status = format!("{status}, {} failed", self.failed);
        }
        status
    }
}

impl Summary {
    fn sentence(&self) -> String {
        let Self { texts, failed, texts_per_second, hit_rate, seconds, out } = self;
        let failed = match failed {
            0 => "none failed".to_owned(),
            failed => format!("{failed} failed"),
        };
        format!(
            "{texts} texts in {seconds:.1} s ({texts_per_second:.0} texts/s), {:.1} % hits, {failed}, written to {out}",
            100.0 * hit_rate
        )
    }
}

/// Writes one line to standard error; a closed one is no reason to stop.
pub(crate) fn say(sentence: &str) {
    writeln!(io::stderr(), "{sentence}").ok();
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {pos}/{len} texts, {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} texts, {msg}"),
    };
    let bar = bar.with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message("waiting for the first answer");
    bar.tick();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hit_rate_counts_only_texts_with_a_vector() {
        let mut progress = Progress::start(Some(10));
        progress.add(4, 1);
        progress.fail(1, "refused");
        progress.fail(2, "refused");
        let summary = progress.summary("out.npy".to_owned());
        assert_eq!((summary.texts, summary.failed), (4, 2));
        assert!((summary.hit_rate - 0.5).abs() < 1e-12);
        assert!(summary.sentence().contains("50.0 % hits, 2 failed, written to out.npy"));
    }

    #[test]
    fn status_of_a_run_without_an_answer_is_no_division_by_zero() {
        let progress = Progress::start(Some(10));
        assert!(progress.status().contains("0.0 % hits"), "{}", progress.status());
        assert!(!progress.status().contains("left"), "{}", progress.status());
        assert!(progress.summary(String::new()).hit_rate.abs() < 1e-12);
    }
}

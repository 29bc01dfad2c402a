//! What a person sees while a model is fetched.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

/// Told of every download, in order: `begin`, many `advance`, `end`; `note` may come at any time.
pub trait Progress: Send + Sync {
    /// A download begins; `bytes` is its length where the server says it.
    fn begin(&self, file: &str, bytes: Option<u64>);
    /// So many more bytes have come.
    fn advance(&self, bytes: u64);
    /// The download is over, complete or not.
    fn end(&self);
    /// One line worth reading: which source failed, what is unverified.
    fn note(&self, line: &str);
}

/// Shorter files are fetched in silence: they are over before a person can read about them.
const SHORT_BYTES: u64 = 1 << 20;

/// For people: a bar on standard error where that is a terminal, else a line at begin and end.
#[derive(Debug)]
pub struct TerminalProgress {
    draws: bool,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    file: String,
    bar: ProgressBar,
    announced: Option<u64>,
    came: u64,
    since: Instant,
}

impl TerminalProgress {
    /// Writes to standard error.
    #[must_use]
    pub fn new() -> Self {
        Self { draws: std::io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<Current>) -> T) -> T {
        act(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for TerminalProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, file: &str, bytes: Option<u64>) {
        if bytes.is_some_and(|bytes| bytes < SHORT_BYTES) {
            return;
        }
        let bar = if self.draws { bar(file, bytes) } else { ProgressBar::hidden() };
        if !self.draws {
            let length = bytes.map_or_else(String::new, |bytes| format!(", {}", BinaryBytes(bytes)));
            say(&format!("fetching {file}{length}"));
        }
        let current =
            Current { file: file.to_owned(), bar, announced: bytes, came: 0, since: Instant::now() };
        self.with(|place| *place = Some(current));
    }

    fn advance(&self, bytes: u64) {
        self.with(|place| {
            if let Some(current) = place {
                current.came += bytes;
                current.bar.inc(bytes);
            }
        });
    }

    fn end(&self) {
        let Some(current) = self.with(Option::take) else { return };
        current.bar.finish_and_clear();
        let seconds = current.since.elapsed().as_secs_f32();
        let broke_off = current.announced.is_some_and(|announced| announced != current.came);
        let outcome = if broke_off { "broke off" } else { "fetched" };
        say(&format!("{outcome} {}, {} in {seconds:.1} s", current.file, BinaryBytes(current.came)));
    }

    fn note(&self, line: &str) {
        self.with(|place| match place {
            Some(current) => current.bar.suspend(|| say(line)),
            None => say(line),
        });
    }
}

fn bar(file: &str, bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_message(file.to_owned())
}

/// One line on standard error. Nobody is left to tell where that is closed, and the download goes on.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// For services: a log line at begin and end of a download.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogProgress;

impl Progress for LogProgress {
    fn begin(&self, file: &str, bytes: Option<u64>) {
        tracing::info!(file, bytes, "fetching model file");
    }

    fn advance(&self, _bytes: u64) {}

    fn end(&self) {
        tracing::info!("model file fetched");
    }

    fn note(&self, line: &str) {
        tracing::info!("{line}");
    }
}

//! What the person at the terminal sees while it lasts: a bar, or one line for each step where nobody watches.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// One step. It disappears from the terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

/// One line about what is done.
pub(crate) fn say(line: impl Display) {
    writeln!(io::stderr(), "{line}").ok();
}

impl Progress {
    /// A step whose end cannot be foreseen.
    pub(crate) fn wait(what: &str) -> Self {
        Self::start(what, ProgressBar::new_spinner(), "{spinner} {msg}, {elapsed}")
    }

    /// A step of `total` keys.
    pub(crate) fn count(what: &str, total: u64) -> Self {
        Self::start(what, ProgressBar::new(total), "{bar:30} {pos}/{len} keys, {msg}, {eta} left")
    }

    fn start(what: &str, bar: ProgressBar, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            say(what);
            return Self(None);
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// So many keys more are done.
    pub(crate) fn add(&self, keys: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(keys);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

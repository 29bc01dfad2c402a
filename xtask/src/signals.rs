//! Ctrl-C, SIGTERM and a closed terminal become requests to stop.

use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::supervisor::StopHandle;

/// From now on each of these signals requests a stop; the second one makes the supervisor kill at once.
pub(crate) fn request_stop_on_signals(stop: StopHandle) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listen for signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(|_| stop.request()))
        .context("start the signal thread")?;
    Ok(())
}

//! The phases of a run: check, fill the caches, warm up, measure, report.

use std::{
    io::{self, IsTerminal},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use crate::{
    client::{Client, Target},
    drive::{Load, Phase},
    machine::Machine,
    memory::{self, Watched},
    report::{Form, Report, Setting},
    texts,
    versus::{self, Peer},
    workload::{Choice, Workload},
};

/// All that a run needs to know.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the texts are.
    pub(crate) file: PathBuf,
    /// The server under load.
    pub(crate) target: Target,
    /// Clients at once.
    pub(crate) clients: u16,
    /// How long to measure.
    pub(crate) measured: Duration,
    /// Load before that.
    pub(crate) warm_up: Duration,
    /// Texts of one request.
    pub(crate) texts_per_request: NonZeroUsize,
    /// Which texts are sent.
    pub(crate) choice: Choice,
    /// Of all draws.
    pub(crate) seed: u64,
    /// Processes whose memory is watched.
    pub(crate) server_pids: Vec<u32>,
    /// How the report is written.
    pub(crate) form: Form,
    /// Another server, measured in turns.
    pub(crate) peer: Option<Peer>,
}

/// What `main` prints and exits with.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The report, ready to print.
    pub(crate) text: String,
    /// Requests that failed while it was measured.
    pub(crate) errors: u64,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Measured to its end.
    Reported(Finished),
    /// Somebody stopped it; half a measurement is not reported.
    Interrupted,
}

/// Runs the load test, or stops at Ctrl-C.
///
/// # Errors
/// Where it could not start.
pub(crate) async fn run(config: Config) -> anyhow::Result<Ending> {
    tokio::select! {
        finished = measure(config) => finished.map(Ending::Reported),
        signal = tokio::signal::ctrl_c() => {
            signal?;
            Ok(Ending::Interrupted)
        }
    }
}

async fn measure(config: Config) -> anyhow::Result<Finished> {
    if let Some(peer) = &config.peer {
        return versus::measure(&config, peer).await;
    }
    let workload = Arc::new(Workload::new(texts::read(&config.file)?, config.choice));
    let start_watching =
        || config.server_pids.iter().map(|pid| Watched::start(*pid)).collect::<Result<Vec<_>, _>>();
    start_watching()?;
    Client::new(config.target.clone()).check().await?;
    let load = Load::new(
        &config.target,
        config.clients,
        Arc::clone(&workload),
        config.texts_per_request,
        config.seed,
    );
    if !config.target.no_cache {
        load.fill_caches().await?;
    }
    let warm_up = with_display("warm-up", config.warm_up, &load).await?;
    let mut watched = start_watching()?;
    let phase = tokio::select! {
        phase = with_display("measuring", config.measured, &load) => phase?,
        never = memory::watch(&mut watched) => match never {},
    };
    memory::sample_all(&mut watched);
    let setting = Setting {
        url: config.target.base.to_string(),
        clients: config.clients,
        texts_per_request: config.texts_per_request.get(),
        workload: config.choice,
        distinct: workload.distinct(),
        reused: workload.reused(),
        seed: config.seed,
        no_cache: config.target.no_cache,
        warm_up: config.warm_up,
        warm_up_errors: warm_up.record.failed(),
        timeout: config.target.timeout,
    };
    let errors = phase.record.failed();
    let text = Report::new(&setting, &phase, watched, Machine::here()).write(config.form)?;
    Ok(Finished { text, errors })
}

/// Drives the load; at a terminal, with a line that shows it is alive.
pub(crate) async fn with_display(name: &str, length: Duration, load: &Load) -> anyhow::Result<Phase> {
    if !io::stderr().is_terminal() || length.is_zero() {
        return load.drive(length).await;
    }
    let bar = ProgressBar::new(length.as_secs());
    bar.set_style(ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} s, {msg}")?);
    bar.set_prefix(name.to_owned());
    let started = Instant::now();
    let show = async {
        let mut tick = interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            bar.set_position(started.elapsed().as_secs());
            bar.set_message(format!("{} requests", load.sent.load(Ordering::Relaxed)));
        }
    };
    let phase = tokio::select! {
        phase = load.drive(length) => phase,
        () = show => unreachable!("the display has no end of its own"),
    };
    bar.finish_and_clear();
    phase
}

//! What a hit costs through HTTP: L1 beside a bare handler that returns the same bytes, L2 beside a GET of redis.
//!
//! ```text
//!  client × N ─┬─▶ bare (this program, a process of its own): the least that HTTP costs
//!              ├─▶ embedding-single ─ L1                      ml-base, asked once for each text
//!              ├─▶ embedding-single ─ no L1 ─▶ cache-shard
//!              ├─▶ cache-shard: GetMany of 1
//!              └─▶ redis: GET
//! ```
//!
//! Each client asks for a text of its own, again and again: of one text the proxy would answer many from one lookup.

pub(crate) mod asker;
pub(crate) mod bare;
mod grid;
mod report;

use std::time::Duration;

use anyhow::Result;
use tokio::{task::JoinSet, time::Instant};

use crate::{args::HttpConfig, progress::Progress, record::Record};
use asker::Asker;
use grid::Grid;
use report::{Report, Setting};

/// A way of asking for a vector that is there.
#[derive(Debug)]
pub(crate) struct Way {
    /// As the table calls it.
    name: &'static str,
    /// One for each client.
    askers: Vec<Asker>,
    /// Requests a second of each turn.
    rates: Vec<f64>,
    /// All turns.
    record: Record,
}

/// What to print, and whether an answer was wrong.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The report.
    pub(crate) text: String,
    /// Answers that were not what they should be.
    pub(crate) wrong: u64,
}

/// Starts everything, measures each way in turns, and ends everything.
///
/// # Errors
/// Where something does not start, or answers with an error.
pub(crate) async fn measure(config: &HttpConfig) -> Result<Finished> {
    let mut grid = Grid::start(config).await?;
    let mut ways = grid.ways(config.store.clients).await?;
    let rounds = config.store.rounds;
    let length = config.store.length;
    let names: Vec<&str> = ways.iter().map(|way| way.name).collect();
    let progress = Progress::wait(&format!("{}: {rounds} round(s), {length:?} each", names.join("; ")));
    for _ in 0..rounds {
        for way in &mut ways {
            way.take_turn(length).await?;
        }
    }
    drop(progress);
    let setting = Setting { clients: config.store.clients, rounds, seconds: length.as_secs_f64() };
    let report = Report::new(setting, &ways);
    Ok(Finished { text: report.write(config.store.json)?, wrong: report.wrong })
}

impl Way {
    fn new(name: &'static str, askers: Vec<Asker>) -> Result<Self> {
        Ok(Self { name, askers, rates: Vec::new(), record: Record::new()? })
    }

    async fn take_turn(&mut self, length: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut running = JoinSet::new();
        for asker in self.askers.drain(..) {
            running.spawn(one_client(asker, begin, length));
        }
        let mut turn = Record::new()?;
        while let Some(finished) = running.join_next().await {
            let (asker, record) = finished??;
            self.askers.push(asker);
            turn.merge(&record)?;
        }
        self.rates.push(turn.keys as f64 / begin.elapsed().as_secs_f64());
        self.record.merge(&turn)
    }
}

async fn one_client(mut asker: Asker, begin: Instant, length: Duration) -> Result<(Asker, Record)> {
    let mut record = Record::new()?;
    // At least one request a client: a short turn on a busy machine still measures something.
    loop {
        let start = Instant::now();
        let is_right = asker.ask().await?;
        record.add_get(start.elapsed())?;
        record.keys += 1;
        record.wrong += u64::from(!is_right);
        if begin.elapsed() >= length {
            return Ok((asker, record));
        }
    }
}

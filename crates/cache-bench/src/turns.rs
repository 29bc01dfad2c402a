//! The turns: every engine once, then all again, for each kind of load.

use std::num::NonZeroUsize;

use anyhow::Result;
use serde::Serialize;

use crate::{
    args::StoreConfig,
    draws::Draws,
    drive::{Turn, Until, drive},
    engine::Engine,
    progress::Progress,
    record::Record,
    server::Server,
};

/// Keys of one request.
const BATCHES: [NonZeroUsize; 3] = [one_of(1), one_of(16), one_of(64)];
/// Of a hundred keys, those that are there.
const HITS_PERCENT: [u8; 2] = [90, 99];

/// New vectors of one turn by those that are there: a fast engine would fill the machine otherwise.
const PUTS_SHARE: u64 = 2;

/// Vectors that all turns may put.
pub(crate) fn puts_most(config: &StoreConfig) -> u64 {
    let turns = BATCHES.len() * HITS_PERCENT.len() * config.rounds;
    let last_requests = u64::from(config.clients) * BATCHES[BATCHES.len() - 1].get() as u64;
    turns as u64 * (config.entries / PUTS_SHARE + last_requests)
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    /// Of a hundred keys, those that are there.
    pub(crate) hits_percent: u8,
    /// Keys of one request.
    pub(crate) batch: NonZeroUsize,
}

/// All turns of one engine under one kind of load.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Which engine.
    pub(crate) engine: Engine,
    /// Which load.
    pub(crate) cell: Cell,
    /// Keys a second of each turn.
    pub(crate) rates: Vec<f64>,
    /// All turns together.
    pub(crate) record: Record,
    /// Bytes it gave to the disk meanwhile; none where the kernel does not count.
    pub(crate) written_bytes: Option<u64>,
}

/// Puts every kind of load on `servers` in turns.
///
/// # Errors
/// Where one of them answers anything but vectors.
pub(crate) async fn measure(servers: &[Server], config: &StoreConfig) -> Result<Vec<Measured>> {
    let cells = HITS_PERCENT
        .iter()
        .flat_map(|hits_percent| BATCHES.map(|batch| Cell { hits_percent: *hits_percent, batch }));
    let mut all = Vec::new();
    for (index, cell) in cells.enumerate() {
        let Cell { hits_percent, batch } = cell;
        let rounds = config.rounds;
        let _progress = Progress::wait(&format!(
            "{hits_percent} % hits, {batch} key(s) a request: {rounds} round(s) of {} engine(s), {:?} each",
            servers.len(),
            config.length,
        ));
        let mut measured = Vec::new();
        for server in servers {
            measured.push(Measured::new(server.engine, cell)?);
        }
        for round in 0..rounds {
            for (server, measured) in servers.iter().zip(&mut measured) {
                let turn = (index * rounds + round) as u64;
                measured.take_turn(server, config, turn).await?;
            }
        }
        all.extend(measured);
    }
    Ok(all)
}

impl Measured {
    fn new(engine: Engine, cell: Cell) -> Result<Self> {
        Ok(Self { engine, cell, rates: Vec::new(), record: Record::new()?, written_bytes: Some(0) })
    }

    async fn take_turn(&mut self, server: &Server, config: &StoreConfig, turn: u64) -> Result<()> {
        let Cell { hits_percent, batch } = self.cell;
        let draws = (0..config.clients)
            .map(|client| Draws::mix(config.entries, hits_percent, config.seed, turn, client.into()));
        let before = server.written_bytes().ok();
        let puts_max = config.entries / PUTS_SHARE / u64::from(config.clients);
        let until = Until::Time { length: config.length, puts_max: puts_max.max(1) };
        let turn: Turn = drive(server, draws.collect(), batch, until).await?;
        let written =
            server.written_bytes().ok().zip(before).map(|(after, before)| after.saturating_sub(before));
        self.written_bytes = self.written_bytes.zip(written).map(|(sum, written)| sum + written);
        self.rates.push(turn.keys_per_second());
        self.record.merge(&turn.record)
    }
}

const fn one_of(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}

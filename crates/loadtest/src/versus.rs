//! In turns with another server: the same load on ours and on a peer, round by round, caches left aside.
//!
//! ```text
//!  texts ─▶ ours: warm-up, measure ─▶ peer: warm-up, measure ─▶ ours … × rounds ─▶ two reports and their ratios
//! ```

mod report;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use crate::{
    api::Api,
    client::{Client, Outcome, Target},
    drive::{Load, Phase},
    machine::Machine,
    memory::{self, Watched},
    record::Record,
    report::{Report, Setting},
    run::{Config, Finished, with_display},
    texts,
    workload::{Choice, Workload},
};
use report::{Comparison, Measured};

/// The other server.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it listens; its API is the first that is tried.
    pub(crate) target: Target,
    /// What it may speak, the likelier first.
    pub(crate) apis: Vec<Api>,
    /// Its processes whose memory is watched.
    pub(crate) pids: Vec<u32>,
    /// Turns of each server.
    pub(crate) rounds: NonZeroUsize,
}

/// One of the two servers and what was measured of it so far.
struct Side {
    target: Target,
    load: Load,
    workload: Arc<Workload>,
    pids: Vec<u32>,
    watched: Vec<Watched>,
    phase: Phase,
    warm_up_errors: u64,
    texts_per_second: Vec<f64>,
}

/// Puts the load of `config` on its server and on `peer` in turns.
///
/// # Errors
/// Where one of the two does not answer, or a process to watch is not there.
pub(crate) async fn measure(config: &Config, peer: &Peer) -> anyhow::Result<Finished> {
    let texts = texts::read(&config.file)?;
    Client::new(config.target.clone()).check().await?;
    let ours = Target { no_cache: true, ..config.target.clone() };
    let theirs = Target { api: probe(peer, &texts[0]).await?, ..peer.target.clone() };
    let mut sides = [
        Side::new(config, ours, texts.clone(), &config.server_pids)?,
        Side::new(config, theirs, texts, &peer.pids)?,
    ];
    for round in 1..=peer.rounds.get() {
        for side in &mut sides {
            side.take_turn(config, round).await?;
        }
    }
    let [ours, theirs] = sides.map(|side| side.finish(config));
    let errors = ours.errors + theirs.errors;
    let text = Comparison::new(ours, theirs).write(config.form)?;
    Ok(Finished { text, errors })
}

/// The first API that answers with a vector.
async fn probe(peer: &Peer, text: &str) -> anyhow::Result<Api> {
    let mut refusals = Vec::new();
    for api in &peer.apis {
        let mut client = Client::new(Target { api: api.clone(), ..peer.target.clone() });
        match client.embed(&[text.into()]).await {
            Outcome::Answered { .. } => return Ok(api.clone()),
            Outcome::Failed(kind) => refusals.push(format!("POST {}: {kind}", api.path())),
            Outcome::TimedOut => refusals.push(format!("POST {}: no answer in time", api.path())),
        }
    }
    bail!("the peer at {} gives no vectors: {}", peer.target.base, refusals.join("; "))
}

impl Side {
    fn new(config: &Config, target: Target, texts: Vec<String>, pids: &[u32]) -> anyhow::Result<Self> {
        let workload = Arc::new(Workload::new(texts, Choice::Unique));
        let of = Arc::clone(&workload);
        let load = Load::new(&target, config.clients, of, config.texts_per_request, config.seed);
        let phase = Phase { record: Record::new()?, elapsed: Duration::ZERO };
        let watched = pids.iter().map(|pid| Watched::start(*pid)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            target,
            load,
            workload,
            pids: pids.to_vec(),
            watched,
            phase,
            warm_up_errors: 0,
            texts_per_second: Vec::new(),
        })
    }

    async fn take_turn(&mut self, config: &Config, round: usize) -> anyhow::Result<()> {
        let name = format!("round {round}, {}", self.target.base);
        let warm_up = with_display(&format!("{name}: warm-up"), config.warm_up, &self.load).await?;
        if round == 1 {
            // What a first request makes a server allocate is no growth.
            self.watched = self.pids.iter().map(|pid| Watched::start(*pid)).collect::<Result<_, _>>()?;
        }
        let phase = tokio::select! {
            phase = with_display(&name, config.measured, &self.load) => phase?,
            never = memory::watch(&mut self.watched) => match never {},
        };
        memory::sample_all(&mut self.watched);
        self.texts_per_second.push(phase.record.texts as f64 / phase.elapsed.as_secs_f64());
        self.warm_up_errors += warm_up.record.failed();
        self.phase.elapsed += phase.elapsed;
        self.phase.record.merge(phase.record)
    }

    fn finish(self, config: &Config) -> Measured {
        let setting = Setting {
            url: self.target.base.to_string(),
            clients: config.clients,
            texts_per_request: config.texts_per_request.get(),
            workload: Choice::Unique,
            distinct: self.workload.distinct(),
            reused: self.workload.reused(),
            seed: config.seed,
            no_cache: self.target.no_cache,
            warm_up: config.warm_up,
            warm_up_errors: self.warm_up_errors,
            timeout: self.target.timeout,
        };
        Measured {
            api: self.target.api.path(),
            texts_per_second: self.texts_per_second,
            errors: self.phase.record.failed(),
            report: Report::new(&setting, &self.phase, self.watched, Machine::here()),
        }
    }
}

//! L2: vectors in the cache shards, which all proxies share and which outlive them.
//!
//! ```text
//!  misses of L1 ─▶ search ─▶ roster ─▶ rendezvous: who owns a key
//!                    └─▶ member ×N, each with its own breaker, watch and write_back ──▶ cache-shard ×N
//!  computed ─▶ Draft ──▶ the owner's write_back
//!  a list that changes ─▶ resolve ─▶ roster
//! ```
//!
//! Invariants: whatever the shards do costs a request at most the budget, and one that fails costs its own share of the
//! keys; a record that is not exactly what was asked for is a miss; what was computed before a clear is not stored after
//! it.
//!
//! They also remember which models ml-base served last, so that what is cached can be found while ml-base is away.
//!
//! Non-goals: no second copy of a vector, which can be computed again; no choice among the precision classes that the
//! configuration takes.

mod breaker;
mod debt;
mod member;
mod rendezvous;
pub(crate) mod resolve;
mod roster;
mod search;
mod shard;
mod similar;
mod watch;
mod write_back;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use prost::Message;
use protocol::inference::InfoResponse;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(any(test, fuzzing))]
pub(crate) use shard::any_answer;

use self::{
    member::{Member, Shared},
    resolve::{Resolve, Resolver},
    roster::{Registrar, Roster, Terms},
    search::Search,
    shard::ShardError,
    watch::Mirror,
    write_back::Room,
};
pub(crate) use self::{similar::Neighbours, watch::Sight, write_back::Draft};
use crate::{
    config::{Config, ShardConfig, Shards},
    key::CacheKey,
    lookup::l1::{CachedVector, L1},
    metrics::Metrics,
    precision::Classes,
    served::Model,
};

/// Where the shards keep which models were served.
const MODELS_MEMO: &str = "models";

/// A vector that the shard had.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// The vector.
    pub(crate) vector: CachedVector,
    /// What is left of its time; more than nothing.
    pub(crate) remaining: Duration,
}

/// Whether a shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardState {
    /// It answers.
    Up,
    /// It does not, or it owes a clear, and is left alone until it does.
    Down,
}

/// How a shard is, as the proxy sees it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// `host:port`.
    pub(crate) name: Arc<str>,
    /// Whether it is asked.
    pub(crate) state: ShardState,
    /// What it said of itself last.
    pub(crate) sight: Sight,
}

/// Shards that may not have been cleared, and why; none of them where none is known yet.
#[derive(Debug)]
pub(crate) struct NotCleared(Vec<(Arc<str>, ShardError)>);

impl fmt::Display for NotCleared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            formatter.write_str("none of them is known yet")?;
        }
        for (index, (name, error)) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(formatter, "{between}{name}: {error}")?;
        }
        Ok(())
    }
}

/// The second level.
#[derive(Debug)]
pub(crate) struct L2 {
    registrar: Arc<Registrar>,
    budget: Duration,
    ttl_max: Duration,
    keeps_texts: bool,
    metrics: Metrics,
}

impl L2 {
    /// Starts watching and writing, until `stop`. A clear empties `l1`. Names are resolved by `resolve`. Needs a runtime.
    ///
    /// # Errors
    /// If a shard's address is none that can be connected to.
    pub(crate) fn start(
        shards: &ShardConfig,
        config: &Config,
        resolve: Arc<dyn Resolve>,
        l1: Arc<L1>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, tonic::transport::Error> {
        let terms = Terms {
            namespace: config.namespace.clone(),
            classes: Classes::new(config.precision_classes.iter().map(|class| class.on_the_wire())),
            shared: Shared { mirror: Mirror::new(l1), room: Room::new(shards.write_back_bytes_max) },
            join_window: shards.join_window,
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let registrar = Arc::new(Registrar::new(terms));
        match &shards.shards {
            Shards::Listed(list) => registrar.replace(list)?,
            Shards::Dns { host, port } => {
                let resolver =
                    Resolver::new(resolve, host.clone(), *port, shards.resolve_interval, registrar.clone());
                tokio::spawn(async move { stop.run_until_cancelled_owned(resolver.run()).await });
            }
        }
        let (budget, ttl_max, keeps_texts) = (shards.timeout, shards.ttl, shards.keeps_texts);
        Ok(Self { registrar, budget, ttl_max, keeps_texts, metrics })
    }

    /// Gives `take` the vectors of `keys` under `model`, each with the index of its key. Takes at most the budget, and a
    /// fault of a shard is a miss.
    pub(crate) async fn look_up(&self, model: &Model, keys: &[CacheKey], take: impl FnMut(usize, Found)) {
        let deadline = Instant::now() + self.budget;
        let roster = self.roster();
        Search { roster: &roster, model, keys, deadline, metrics: &self.metrics }.run(take).await;
    }

    /// The right to store the vectors of these keys for `ttl` once they are computed; none for a key whose shard's
    /// generation is unknown.
    pub(crate) fn drafts(&self, keys: &[CacheKey], model: &Model, ttl: Duration) -> Vec<Option<Draft>> {
        let (roster, expires) = (self.roster(), Instant::now() + ttl);
        let draft = |key| Some(Draft::of(roster.owner(key)?.origin()?, *key, model).until(expires));
        keys.iter().map(draft).collect()
    }

    /// What is stored of a text beside its vector: nothing, unless the configuration asks for it.
    pub(crate) fn text_to_keep<'t>(&self, text: &'t str) -> &'t str {
        if self.keeps_texts { text } else { "" }
    }

    /// How long a vector may be kept by a caller who wants `ttl` at most.
    pub(crate) fn ttl(&self, ttl: Option<Duration>) -> Duration {
        ttl.map_or(self.ttl_max, |ttl| ttl.min(self.ttl_max))
    }

    /// Forgets every vector of the namespace, for all proxies. L1 is the caller's to empty. A shard that does not hear of
    /// it is not asked for vectors until it was cleared.
    ///
    /// # Errors
    /// The shards that may not have forgotten them yet.
    pub(crate) async fn clear(&self) -> Result<(), NotCleared> {
        self.registrar.owe_those_that_left();
        let roster = self.roster();
        let all: Vec<_> = roster.members().iter().map(|member| &**member).collect();
        if all.is_empty() {
            return Err(NotCleared(Vec::new()));
        }
        let (cleared, mut failed) = clear_each(&all).await;
        if all.len() > 1 {
            // Once more: a proxy may have copied a vector from a shard that was not cleared yet to one that was.
            failed.extend(clear_each(&cleared).await.1);
        }
        if failed.is_empty() { Ok(()) } else { Err(NotCleared(failed)) }
    }

    /// Keeps `served`, for a proxy that starts while ml-base is away: in every shard that answers, so far as it is not
    /// there yet.
    pub(crate) async fn keep_models(&self, served: &InfoResponse) {
        let value: Bytes = served.encode_to_vec().into();
        let roster = self.roster();
        let up = roster.members().iter().filter(|member| member.state() == ShardState::Up);
        let told = up.map(async |member| (&**member.name(), member.tell(MODELS_MEMO, &value).await));
        for (shard, told) in join_all(told).await {
            if let Err(error) = told {
                tracing::debug!(shard, %error, "the cache shard was not told which models are served");
            }
        }
    }

    /// What was kept last, as the first shard says that knows it; none where none does.
    pub(crate) async fn kept_models(&self) -> Option<InfoResponse> {
        let roster = self.roster();
        let recalled = roster.members().iter().map(async |member| (&**member.name(), recall(member).await));
        let mut first = None;
        for (shard, recalled) in join_all(recalled).await {
            match recalled {
                Ok(kept) => first = first.or(kept),
                Err(error) => {
                    tracing::debug!(
                        shard,
                        %error,
                        "the cache shard does not say which models were served last"
                    );
                }
            }
        }
        first
    }

    /// How each shard is.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let shown = |member: &Arc<Member>| Shown {
            name: member.name().clone(),
            state: member.state(),
            sight: member.sight(),
        };
        self.roster().members().iter().map(shown).collect()
    }

    /// Waits until all vectors that wait now are stored or given up, but no longer than `patience`.
    pub(crate) async fn flush(&self, patience: Duration) {
        join_all(self.roster().members().iter().map(|member| member.flush(patience))).await;
    }

    fn roster(&self) -> Arc<Roster> {
        self.registrar.roster()
    }
}

/// Clears these at once: those that are cleared, and those that may not be.
async fn clear_each<'a>(members: &[&'a Member]) -> (Vec<&'a Member>, Vec<(Arc<str>, ShardError)>) {
    let (mut cleared, mut failed) = (Vec::new(), Vec::new());
    for (member, ended) in join_all(members.iter().map(async |member| (*member, member.clear().await))).await
    {
        match ended {
            Ok(()) => cleared.push(member),
            Err(error) => failed.push((member.name().clone(), error)),
        }
    }
    (cleared, failed)
}

async fn recall(member: &Member) -> Result<Option<InfoResponse>, ShardError> {
    let Some(kept) = member.recall(MODELS_MEMO).await? else { return Ok(None) };
    InfoResponse::decode(kept).map(Some).map_err(|error| ShardError::Wrong(error.to_string()))
}

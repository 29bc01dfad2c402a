//! Missing texts on their way to ml-base: at once while calls are free, gathered into chunks while they are not.
//!
//! ```text
//!  lookup ── misses ─▶ Dispatcher ─▶ chunk::Waiting ── chunk ─▶ Caller ─▶ ml_base ─▶ ml-base
//!                      (one task)    bounded queue              one task a call,
//!                                                               retry::Budget
//! ```
//!
//! Goals: no more than the set number of calls at once; what nobody waits for is not sent, and a call that nobody waits
//! for is cancelled; every miss that is taken in is ended with an outcome.
//!
//! Non-goals: no batches for the device (ml-base forms them), no choice of a replica (the balancer's).

pub(crate) mod chunk;
pub(crate) mod error;
pub(crate) mod ml_base;
pub(crate) mod retry;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use protocol::inference::{EmbedItem, Truncation, embed_item::Input};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::{Instant, sleep},
};

pub(crate) use crate::miss::error::MissError;
use crate::{
    config::MissLimits,
    lookup::{
        l2::Draft,
        single_flight::{Obtained, Source, StageTimes, Ticket},
    },
    metrics::Metrics,
    miss::{
        chunk::Waiting,
        ml_base::{Answer, MlBase},
        retry::Budget,
    },
    served::Model,
};

/// A text to compute.
#[derive(Debug)]
pub(crate) struct Miss {
    /// The text.
    pub(crate) text: String,
    /// What goes in front of it; may be empty.
    pub(crate) prompt: Arc<str>,
    /// What happens to it over the model's limit.
    pub(crate) truncation: Truncation,
    /// The model.
    pub(crate) model: Arc<Model>,
    /// Where the outcome goes.
    pub(crate) ticket: Ticket,
    /// The right to store the vector in the cache shard.
    pub(crate) draft: Option<Draft>,
    /// How long the cache shard was asked for it.
    pub(crate) l2_time: Duration,
    /// When it was found missing.
    pub(crate) queued_at: Instant,
    /// When its computation is given up.
    pub(crate) deadline: Instant,
}

impl Miss {
    /// Bytes that it adds to a call.
    pub(crate) fn bytes(&self) -> usize {
        self.prompt.len() + self.text.len()
    }

    fn item(&self, now: Instant) -> EmbedItem {
        let left = self.deadline.saturating_duration_since(now).as_millis();
        EmbedItem {
            input: Some(Input::Text(self.text.clone())),
            prompt: self.prompt.as_ref().to_owned(),
            truncation: self.truncation.into(),
            // 0 would mean no limit of its own.
            timeout_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        }
    }
}

/// Takes misses; clones hand them to the same task, which ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher {
    inbox: mpsc::Sender<Vec<Miss>>,
}

impl Dispatcher {
    /// Starts sending to `ml_base`; at most `requests_max` requests hand over misses at once.
    pub(crate) fn start(limits: MissLimits, requests_max: usize, ml_base: MlBase, metrics: Metrics) -> Self {
        let (inbox, misses) = mpsc::channel(requests_max);
        let desk = Desk {
            waiting: Waiting::new(&limits, metrics.clone()),
            calls: JoinSet::new(),
            calls_max: limits.calls_max,
            caller: Arc::new(Caller { ml_base, budget: Budget::new(Instant::now()), metrics }),
        };
        tokio::spawn(desk.run(misses));
        Self { inbox }
    }

    /// Hands over the misses of one request. Each gets its outcome through its ticket, a refusal too.
    pub(crate) fn submit(&self, misses: Vec<Miss>) {
        if misses.is_empty() {
            return;
        }
        match self.inbox.try_send(misses) {
            Ok(()) => {}
            Err(TrySendError::Full(misses)) => fail(misses, &chunk::queue_is_full()),
            Err(TrySendError::Closed(misses)) => {
                fail(misses, &MissError::Unavailable("this replica is stopping".to_owned()));
            }
        }
    }
}

fn fail(misses: impl IntoIterator<Item = Miss>, error: &MissError) {
    for miss in misses {
        miss.ticket.complete(Err(error.clone()));
    }
}

/// The task that decides what leaves when.
struct Desk {
    waiting: Waiting,
    calls: JoinSet<()>,
    calls_max: usize,
    caller: Arc<Caller>,
}

impl Desk {
    async fn run(mut self, mut inbox: mpsc::Receiver<Vec<Miss>>) {
        loop {
            tokio::select! {
                received = inbox.recv() => match received {
                    Some(misses) => self.take_in(misses),
                    None => return,
                },
                Some(ended) = self.calls.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a call to ml-base ended without an outcome");
                    }
                }
            }
            // What came at the same moment leaves together.
            while let Ok(misses) = inbox.try_recv() {
                self.take_in(misses);
            }
            self.dispatch();
        }
    }

    fn take_in(&mut self, misses: Vec<Miss>) {
        if let Err(refused) = self.waiting.push(misses) {
            fail(refused, &chunk::queue_is_full());
        }
    }

    fn dispatch(&mut self) {
        while let Some(free) = NonZeroUsize::new(self.calls_max.saturating_sub(self.calls.len())) {
            let chunk = self.waiting.take(free, Instant::now());
            if chunk.is_empty() {
                return;
            }
            self.calls.spawn(self.caller.clone().carry_out(chunk));
        }
    }
}

/// What one call needs.
struct Caller {
    ml_base: MlBase,
    budget: Budget,
    metrics: Metrics,
}

impl Caller {
    /// Computes a chunk: one call, and one more for what is worth a retry.
    async fn carry_out(self: Arc<Self>, chunk: Vec<Miss>) {
        self.metrics.chunk(chunk.len());
        self.budget.deposit();
        let failed = self.call(chunk).await;
        let (again, lost): (Vec<_>, Vec<_>) = failed.into_iter().partition(|(_, error)| error.is_retryable());
        let mut lost = lost;
        match again.is_empty() || !self.budget.withdraw(Instant::now()) {
            true => lost.extend(again),
            false => lost.extend(self.call_again(again).await),
        }
        for (miss, error) in lost {
            miss.ticket.complete(Err(error));
        }
    }

    async fn call_again(&self, failed: Vec<(Miss, MissError)>) -> Vec<(Miss, MissError)> {
        sleep(retry::delay()).await;
        let now = Instant::now();
        let (again, late): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .filter(|(miss, _)| !miss.ticket.is_abandoned())
            .partition(|(miss, _)| now < miss.deadline);
        let mut lost = late;
        if !again.is_empty() {
            self.metrics.retry();
            lost.extend(self.call(again.into_iter().map(|(miss, _)| miss).collect()).await);
        }
        lost
    }

    /// One call. Completes what was computed and returns what was not; nothing where nobody waits any more.
    async fn call(&self, misses: Vec<Miss>) -> Vec<(Miss, MissError)> {
        let (Some(model), Some(deadline)) =
            (misses.first().map(|miss| miss.model.clone()), misses.iter().map(|miss| miss.deadline).max())
        else {
            return Vec::new();
        };
        let now = Instant::now();
        let items = misses.iter().map(|miss| miss.item(now)).collect();
        let answer = tokio::select! {
            answer = self.ml_base.embed(&model, items, deadline) => answer,
            () = all_abandoned(&misses) => {
                self.metrics.call("abandoned");
                return Vec::new();
            }
        };
        self.metrics.call(result_of(&answer));
        match answer {
            Ok(answer) => {
                let times = answer.times;
                let ended = misses.into_iter().zip(answer.items);
                ended.filter_map(|(miss, item)| settle(miss, item, times)).collect()
            }
            Err(error) => misses.into_iter().map(|miss| (miss, error.clone())).collect(),
        }
    }
}

/// How a call ended, as metrics name it.
fn result_of(answer: &Result<Answer, MissError>) -> &'static str {
    match answer {
        Ok(answer) if answer.is_garbled() => MissError::Garbled.label(),
        Ok(_) => "ok",
        Err(error) => error.label(),
    }
}

fn settle(miss: Miss, item: ml_base::ItemOutcome, times: StageTimes) -> Option<(Miss, MissError)> {
    match item {
        Ok(vector) => {
            let times = StageTimes { l2: miss.l2_time, ..times };
            let obtained = Obtained { vector: Arc::new(vector), source: Source::Computed, times };
            let seen = miss.ticket.complete(Ok(obtained));
            if let Some((draft, vector)) = miss.draft.zip(seen) {
                draft.send(&vector);
            }
            None
        }
        Err(error) => Some((miss, error)),
    }
}

async fn all_abandoned(misses: &[Miss]) {
    for miss in misses {
        miss.ticket.abandoned().await;
    }
}

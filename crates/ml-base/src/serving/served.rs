//! One model of the replica and the phase it is in; leases hold it loaded.
//!
//! Invariant: a model is unloaded only from `Loaded` without a lease, under the lock that gives out leases; so whoever
//! holds one has a pipeline whose worker lives.

use std::{sync::Arc, time::Duration};

use protocol::{
    error::{ApiError, ErrorCode},
    inference,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::Described;
use crate::{metrics::ModelMetrics, pipeline::Pipeline, queue::Queue};

/// What of a call's time is kept back to say that its model did not come: at most this, and at most a tenth.
const ANSWER_RESERVE: Duration = Duration::from_millis(100);

/// Whether a model is there.
#[derive(Debug)]
enum Phase {
    Unloaded,
    /// The keeper was told.
    Loading,
    Loaded(Lent),
    /// The last attempt failed; the next call makes another one.
    Failed(ApiError),
}

#[derive(Debug)]
struct Lent {
    pipeline: Arc<Pipeline>,
    leases: usize,
    /// When the last lease ended, or the model was loaded.
    idle_since: Instant,
}

/// A model of this replica.
#[derive(Debug)]
pub struct Served {
    pub(crate) described: Described,
    queue: Arc<Queue>,
    metrics: ModelMetrics,
    phase: watch::Sender<Phase>,
    /// Its place among the models of the replica.
    index: usize,
    /// Tells the keeper that this model is wanted. Has room for every model.
    wanted: mpsc::Sender<usize>,
}

/// How long a model has not been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    NotLoaded,
    Busy,
    IdleSince(Instant),
}

impl Served {
    /// A model that is not loaded yet.
    pub(crate) fn new(
        described: Described,
        queue: Arc<Queue>,
        metrics: ModelMetrics,
        index: usize,
        wanted: mpsc::Sender<usize>,
    ) -> Self {
        Self { described, queue, metrics, phase: watch::Sender::new(Phase::Unloaded), index, wanted }
    }

    /// Hub id, or the directory's name.
    pub fn id(&self) -> &str {
        &self.described.files.id
    }

    /// Whether this is its id or its alias.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.id() || Some(name) == self.described.files.alias.as_deref()
    }

    /// Whether calls without a name go to it.
    pub fn is_default(&self) -> bool {
        self.index == 0
    }

    /// Whether it can compute now.
    pub fn is_loaded(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Loaded(_))
    }

    /// Memory it is reckoned to take once loaded.
    pub fn need_bytes(&self) -> u64 {
        self.described.need_bytes
    }

    /// What waits to be computed by it.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    pub(crate) fn message(&self) -> inference::ModelInfo {
        self.described.message()
    }

    pub(crate) fn info_json(&self) -> serde_json::Value {
        let mut json = self.described.json();
        json["is_default"] = self.is_default().into();
        json["is_loaded"] = self.is_loaded().into();
        json
    }

    /// Keeps the model loaded while the lease lives; waits for its load, which all that wait share.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if it cannot be loaded, or not before `deadline`.
    pub(crate) async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, ApiError> {
        let patience = patience(deadline, Instant::now());
        let mut phases = self.phase.subscribe();
        loop {
            if let Some(pipeline) = self.take_lease()? {
                return Ok(Lease { model: self.clone(), pipeline });
            }
            let settled = phases.wait_for(|phase| !matches!(phase, Phase::Loading));
            match timeout_at(patience, settled).await {
                Ok(Ok(phase)) => {
                    if let Phase::Failed(error) = &*phase {
                        return Err(error.clone());
                    }
                }
                Ok(Err(_)) => return Err(stopping()),
                Err(_) => return Err(self.unavailable("is being loaded")),
            }
        }
    }

    /// A lease where the model is loaded; else the keeper is told once, and there is a load to wait for.
    fn take_lease(&self) -> Result<Option<Arc<Pipeline>>, ApiError> {
        let (mut pipeline, mut is_wanted) = (None, false);
        self.phase.send_if_modified(|phase| {
            match phase {
                Phase::Loaded(lent) => {
                    lent.leases += 1;
                    pipeline = Some(lent.pipeline.clone());
                }
                Phase::Loading => {}
                Phase::Unloaded | Phase::Failed(_) => {
                    *phase = Phase::Loading;
                    is_wanted = true;
                }
            }
            is_wanted
        });
        if is_wanted && self.wanted.try_send(self.index).is_err() {
            self.failed(stopping());
            return Err(stopping());
        }
        Ok(pipeline)
    }

    fn return_lease(&self) {
        self.phase.send_if_modified(|phase| {
            if let Phase::Loaded(lent) = phase {
                lent.leases -= 1;
                lent.idle_since = Instant::now();
            }
            false
        });
    }

    pub(super) fn unavailable(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::new(ErrorCode::Unavailable, format!("model `{}` {why}", self.id())).at_field("model")
    }

    pub(super) fn loaded(&self, pipeline: Pipeline) {
        let lent = Lent { pipeline: Arc::new(pipeline), leases: 0, idle_since: Instant::now() };
        self.phase.send_replace(Phase::Loaded(lent));
    }

    pub(super) fn failed(&self, error: ApiError) {
        self.phase.send_replace(Phase::Failed(error));
    }

    pub(super) fn usage(&self) -> Use {
        match &*self.phase.borrow() {
            Phase::Loaded(Lent { leases: 0, idle_since, .. }) => Use::IdleSince(*idle_since),
            Phase::Loaded(_) => Use::Busy,
            Phase::Unloaded | Phase::Loading | Phase::Failed(_) => Use::NotLoaded,
        }
    }

    /// Takes the pipeline back, unless somebody holds a lease. True when it was taken.
    pub(super) fn take_back(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let is_idle = matches!(phase, Phase::Loaded(Lent { leases: 0, .. }));
            if is_idle {
                *phase = Phase::Unloaded;
            }
            is_idle
        })
    }
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "this replica is stopping")
}

/// The moment until which a call waits for its model, so that there is time left to answer.
fn patience(deadline: Instant, now: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + (left - ANSWER_RESERVE.min(left / 10))
}

/// Holds a model loaded.
#[derive(Debug)]
pub struct Lease {
    model: Arc<Served>,
    pipeline: Arc<Pipeline>,
}

impl Lease {
    /// Where its calls go.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.model.return_lease();
    }
}

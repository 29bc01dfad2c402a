//! Which models ml-base serves, learned from its `Info` and kept up to date.
//!
//! ```text
//!  Poller (one task) ── Info ─▶ ml-base          every 5 s; at start every 0.1 → 2 s; at once when asked to
//!     │ watch
//!     ▼
//!  Models::served()                              None until the first good answer, then the last good one for ever
//! ```
//!
//! The last good answer stays when ml-base goes away, so that what is cached is served on. The cache shards keep it too:
//! a proxy that is started while every replica is away begins with what was served last.

use std::{sync::Arc, time::Duration};

use protocol::{
    error::{ApiError, ErrorCode},
    inference::InfoResponse,
};
use service::lifecycle::{Lifecycle, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    lookup::l2::L2,
    miss::ml_base::MlBase,
    served::{Accepted, Served},
};

const POLL_INTERVAL: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Requests to poll at once that may wait.
const REFRESHES_MAX: usize = 64;

/// What is served now; clones watch the same poller.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    served: watch::Receiver<Option<Arc<Served>>>,
    refreshes: mpsc::Sender<oneshot::Sender<()>>,
}

impl Models {
    /// Starts asking `ml_base` until `stop`; the first good answer, or what `l2` remembers of one, makes `lifecycle` ready.
    pub(crate) fn start(
        ml_base: MlBase,
        l2: Option<Arc<L2>>,
        accepted: Accepted,
        lifecycle: Lifecycle,
        stop: CancellationToken,
    ) -> Self {
        let (served_by, served) = watch::channel(None);
        let (refreshes, refreshes_asked) = mpsc::channel(REFRESHES_MAX);
        let poller = Poller { ml_base, l2, accepted, lifecycle, served: served_by, trouble: None };
        tokio::spawn(async move {
            tokio::select! {
                () = poller.run(refreshes_asked) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { served, refreshes }
    }

    /// The last good answer.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] until there is one.
    pub(crate) fn served(&self) -> Result<Arc<Served>, ApiError> {
        self.served.borrow().clone().ok_or_else(|| {
            ApiError::new(ErrorCode::Unavailable, "ml-base has not yet said which models it serves")
        })
    }

    /// Asks again now, and waits for the answer to a question sent after this call.
    pub(crate) async fn refresh(&self) {
        let (done, answered) = oneshot::channel();
        if self.refreshes.send(done).await.is_err() || answered.await.is_err() {
            tracing::debug!("models are not refreshed any more");
        }
    }
}

struct Poller {
    ml_base: MlBase,
    accepted: Accepted,
    lifecycle: Lifecycle,
    served: watch::Sender<Option<Arc<Served>>>,
    l2: Option<Arc<L2>>,
    /// What was wrong at the last poll: said once, not at every poll.
    trouble: Option<String>,
}

impl Poller {
    async fn run(mut self, mut refreshes: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut asked = Vec::new();
        let (mut backoff, mut has_answered) = (BACKOFF_MIN, false);
        loop {
            match self.poll().await {
                Ok((info, served)) => {
                    has_answered = true;
                    self.accept(served);
                    self.keep(info).await;
                }
                Err(trouble) => {
                    self.complain(trouble);
                    self.recall().await;
                }
            }
            Self::answer(&mut asked);
            // What was served last may be out of date.
            let pause = if has_answered { POLL_INTERVAL } else { backoff };
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(done) = refreshes.recv() => asked.push(done),
            }
            while let Ok(done) = refreshes.try_recv() {
                asked.push(done);
            }
        }
    }

    async fn poll(&self) -> Result<(InfoResponse, Served), String> {
        let info = self.ml_base.info().await.map_err(|status| {
            format!("ml-base does not say what it serves: {} ({})", status.message(), status.code())
        })?;
        let served = Served::read(info.clone(), &self.accepted).map_err(|error| error.to_string())?;
        Ok((info, served))
    }

    /// Tells the cache shards, where they do not know it yet.
    async fn keep(&self, info: InfoResponse) {
        let Some(l2) = &self.l2 else { return };
        // The rest is about one replica at one moment.
        let InfoResponse { models, limits, checksum, .. } = info;
        let essence = InfoResponse { models, limits, checksum, ..InfoResponse::default() };
        l2.keep_models(&essence).await;
    }

    /// Begins with what was served last, as long as ml-base has said nothing.
    async fn recall(&mut self) {
        let Some(l2) = self.l2.as_ref().filter(|_| self.served.borrow().is_none()) else { return };
        match l2.kept_models().await.map(|info| Served::read(info, &self.accepted)) {
            Some(Ok(served)) => {
                tracing::warn!("ml-base is away: what is cached is served, under the models served last");
                self.publish(served);
            }
            Some(Err(error)) => tracing::warn!(%error, "the models served last cannot be served"),
            None => {}
        }
    }

    fn answer(asked: &mut Vec<oneshot::Sender<()>>) {
        for done in asked.drain(..) {
            if done.send(()).is_err() {
                tracing::debug!("whoever wanted the models refreshed is gone");
            }
        }
    }

    fn accept(&mut self, served: Served) {
        if self.trouble.take().is_some() {
            tracing::info!("ml-base answers again");
        }
        self.publish(served);
    }

    fn publish(&self, served: Served) {
        let changed = self.served.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&served);
            if changed {
                *known = Some(Arc::new(served));
            }
            changed
        });
        if changed {
            for model in self.served.borrow().iter().flat_map(|served| served.models()) {
                tracing::info!(id = model.id, identity = model.identity, width = model.width, "model served");
            }
        }
        self.lifecycle.set(State::Ready);
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble);
        }
    }
}

//! The one task that loads and unloads models, so that memory is admitted for one at a time.
//!
//! Goals: a load is admitted before it begins, and room is made for it by unloading what was used least recently; what is
//! idle for the configured time is unloaded; a call never meets a pipeline without a worker.
//!
//! Non-goals: no choice of models (the configuration names them), no load ahead of use.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::served::{Served, Use};
use crate::pipeline::Pipeline;

/// A model in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Where its calls go.
    pub(crate) pipeline: Pipeline,
    /// Ends once its queue is closed and empty.
    pub(crate) worker: JoinHandle<()>,
}

/// Brings models into memory.
pub(crate) trait Loader: Send + Sync + 'static {
    /// Loads a model whose queue is open. Blocks.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    fn load(&self, model: &Served) -> anyhow::Result<Loaded>;
}

/// Under which terms models are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Memory of all loaded models together.
    pub(crate) memory_bytes_max: u64,
    /// A model that nobody has used for so long is unloaded; `None` for never.
    pub(crate) unload_timeout: Option<Duration>,
}

/// There is no room for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "needs {need_bytes} bytes of memory beside the {kept_bytes} of models that are kept, \
     --models-memory-bytes-max is {bytes_max}"
)]
pub(crate) struct NoRoom {
    need_bytes: u64,
    kept_bytes: u64,
    bytes_max: u64,
}

/// Keeps the models of a replica, the default one first.
pub(crate) struct Keeper {
    models: Vec<Arc<Served>>,
    /// The workers of those that are loaded.
    workers: Vec<Option<JoinHandle<()>>>,
    loader: Arc<dyn Loader>,
    terms: Terms,
    wanted: mpsc::Receiver<usize>,
}

impl Keeper {
    /// Keeps `models`, which tell over `wanted` that they are to be loaded.
    pub(crate) fn new(
        models: Vec<Arc<Served>>,
        loader: Arc<dyn Loader>,
        terms: Terms,
        wanted: mpsc::Receiver<usize>,
    ) -> Self {
        let workers = models.iter().map(|_| None).collect();
        Self { models, workers, loader, terms, wanted }
    }

    /// Refuses terms under which a model could never be loaded beside the default one.
    ///
    /// # Errors
    /// [`NoRoom`] with the model's name.
    pub(crate) fn check_room(&self) -> anyhow::Result<()> {
        let Some((default, others)) = self.models.split_first() else { return Ok(()) };
        self.room(default.need_bytes(), 0).with_context(|| format!("model {}", default.id()))?;
        others.iter().try_for_each(|model| {
            self.room(model.need_bytes(), default.need_bytes())
                .with_context(|| format!("model {}", model.id()))
        })
    }

    fn room(&self, need_bytes: u64, kept_bytes: u64) -> Result<(), NoRoom> {
        let bytes_max = self.terms.memory_bytes_max;
        match need_bytes.saturating_add(kept_bytes) <= bytes_max {
            true => Ok(()),
            false => Err(NoRoom { need_bytes, kept_bytes, bytes_max }),
        }
    }

    /// Loads one model, after it has made room for it.
    ///
    /// # Errors
    /// [`NoRoom`] where all others are in use, or what the loader says.
    pub(crate) async fn load(&mut self, index: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        let model = self.models[index].clone();
        self.make_room(model.need_bytes()).await?;
        model.queue().open();
        let (loader, wanted) = (self.loader.clone(), model.clone());
        let loaded = spawn_blocking(move || loader.load(&wanted)).await.context("the load panicked")?;
        let Loaded { pipeline, worker } = loaded.inspect_err(|_| model.queue().close())?;
        self.workers[index] = Some(worker);
        model.loaded(pipeline);
        model.metrics().loaded(start.elapsed());
        let (id, bytes) = (model.id(), model.need_bytes());
        tracing::info!(model = id, memory_bytes = bytes, elapsed = ?start.elapsed(), "model loaded");
        Ok(())
    }

    /// Loads what is wanted and unloads what is idle, until every model is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let next = self.next_look(Instant::now());
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                wanted = self.wanted.recv() => match wanted {
                    Some(index) => self.load_wanted(index).await,
                    None => return,
                },
                () = due => self.unload_idle(Instant::now()).await,
            }
        }
    }

    async fn load_wanted(&mut self, index: usize) {
        let model = self.models[index].clone();
        if let Err(error) = self.load(index).await {
            tracing::error!(model = model.id(), "the model cannot be loaded: {error:#}");
            model.metrics().load_failed();
            model.failed(model.unavailable(format_args!("cannot be loaded: {error:#}")));
        }
    }

    async fn make_room(&mut self, need_bytes: u64) -> Result<(), NoRoom> {
        loop {
            let Err(no_room) = self.room(need_bytes, self.held_bytes()) else { return Ok(()) };
            let Some(index) = self.least_recently_used() else { return Err(no_room) };
            // Where a lease was given out meanwhile, another one is tried.
            self.unload(index, "room is needed").await;
        }
    }

    fn held_bytes(&self) -> u64 {
        let held = self.models.iter().zip(&self.workers).filter(|(_, worker)| worker.is_some());
        held.map(|(model, _)| model.need_bytes()).sum()
    }

    /// The idle model, other than the default one, that was not used for the longest time.
    fn least_recently_used(&self) -> Option<usize> {
        self.idle().min_by_key(|(_, since)| *since).map(|(index, _)| index)
    }

    fn idle(&self) -> impl Iterator<Item = (usize, Instant)> + '_ {
        self.models.iter().enumerate().skip(1).filter_map(|(index, model)| match model.usage() {
            Use::IdleSince(since) => Some((index, since)),
            Use::NotLoaded | Use::Busy => None,
        })
    }

    /// When to look again for models to unload; a model in use can be idle long enough only after the whole time.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let timeout = self.terms.unload_timeout?;
        let others = self.models.iter().skip(1);
        let looks = others.filter_map(|model| match model.usage() {
            Use::NotLoaded => None,
            Use::Busy => Some(now + timeout),
            Use::IdleSince(since) => Some(since + timeout),
        });
        looks.min()
    }

    async fn unload_idle(&mut self, now: Instant) {
        let Some(timeout) = self.terms.unload_timeout else { return };
        let due: Vec<_> = self.idle().filter(|(_, since)| *since + timeout <= now).collect();
        for (index, _) in due {
            self.unload(index, "nobody has used it").await;
        }
    }

    /// Ends the worker and frees the memory, unless somebody holds a lease by now.
    async fn unload(&mut self, index: usize, why: &'static str) {
        let model = self.models[index].clone();
        if !model.take_back() {
            return;
        }
        model.queue().close();
        if let Some(worker) = self.workers[index].take() {
            let ended =
                spawn_blocking(move || worker.join().map_err(|_| io::Error::other("it panicked"))).await;
            if let Ok(Err(error)) = ended {
                tracing::error!(model = model.id(), %error, "the worker ended badly");
            }
        }
        model.metrics().unloaded();
        tracing::info!(model = model.id(), why, "model unloaded");
    }
}

#[cfg(test)]
mod tests;

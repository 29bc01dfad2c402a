//! The thread that owns the device: takes batches, computes them, answers each text.
//!
//! Supervised: a panic fails the batch it happened in, turns `/health` to 503, and the device is made anew. No text that
//! waits is lost, and nobody who waits hangs. Each loaded model has one; they take turns on the device.

use std::{
    any::Any,
    error::Error,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use engine::{Engine, RaggedBatch};
use service::lifecycle::{Lifecycle, State};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    item::{Computed, ItemFailure},
    metrics::ModelMetrics,
    queue::{Entry, FormedBatch, Queue},
    turn::Turns,
};
use protocol::inference::ItemStatus;

/// Pause before a device that could not be made is tried again.
const REMAKE_DELAY: Duration = Duration::from_secs(1);

/// Any error of a device.
pub type DeviceError = Box<dyn Error + Send + Sync>;

/// Something that turns a batch into vectors; the engine, or a stand-in that fails on purpose.
pub trait Device: Send {
    /// One pooled vector for each text of the batch, in order: (texts, width).
    ///
    /// # Errors
    /// If the batch as a whole cannot be computed.
    fn embed(&self, batch: &RaggedBatch) -> Result<Vec<Vec<f32>>, DeviceError>;
}

impl Device for Engine {
    fn embed(&self, batch: &RaggedBatch) -> Result<Vec<Vec<f32>>, DeviceError> {
        let vectors = Engine::embed(self, batch)?;
        Ok(vectors.rows().map(<[f32]>::to_vec).collect())
    }
}

/// Makes the device, at start and again after a panic.
pub type MakeDevice = Box<dyn Fn() -> Result<Box<dyn Device>, DeviceError> + Send>;

/// What the worker stands on.
pub struct Worker {
    /// Where batches come from; closing it ends the worker.
    pub queue: Arc<Queue>,
    /// Broken while the device is made anew.
    pub lifecycle: Lifecycle,
    /// Where batches are counted.
    pub metrics: ModelMetrics,
    /// The device is shared with the workers of other models.
    pub turns: Arc<Turns>,
    /// Makes the device anew.
    pub make: MakeDevice,
    /// Told when the thread ends by a panic, which takes the model with it.
    pub lost: mpsc::Sender<()>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("lifecycle", &self.lifecycle).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts the thread on `device`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(self, device: Box<dyn Device>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("worker".to_owned()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run(device))) {
                tracing::error!(
                    panic = panic_message(panic.as_ref()),
                    "the worker panicked outside of a batch"
                );
                if self.lost.try_send(()).is_err() {
                    tracing::debug!("another worker has said so before");
                }
            }
        })
    }

    fn run(&self, mut device: Box<dyn Device>) {
        while self.queue.wait() {
            if let Err(panic) = self.compute_next(device.as_ref()) {
                tracing::error!(panic = panic_message(panic.as_ref()), "the device panicked; making it anew");
                self.lifecycle.set(State::Broken);
                match self.remake() {
                    Some(remade) => device = remade,
                    None => return,
                }
                self.lifecycle.set(State::Ready);
            }
        }
    }

    /// Forms a batch once it is this model's turn, so that it holds all that has come until then.
    fn compute_next(&self, device: &dyn Device) -> Result<(), Box<dyn Any + Send>> {
        let _turn = self.turns.take();
        self.queue.take().map_or(Ok(()), |batch| self.compute(device, batch))
    }

    /// Computes one batch and answers its texts. `Err` holds what the device panicked with; the texts are answered then too.
    fn compute(&self, device: &dyn Device, batch: FormedBatch) -> Result<(), Box<dyn Any + Send>> {
        let start = Instant::now();
        self.metrics.batch_formed(&batch);
        let computed = catch_unwind(AssertUnwindSafe(|| {
            device.embed(&RaggedBatch::new(batch.entries.iter().map(|(entry, _)| &entry.ids))?)
        }));
        let inference_time = start.elapsed();
        self.metrics.batch_computed(inference_time);
        match computed {
            Ok(Ok(vectors)) if vectors.len() == batch.entries.len() => {
                self.answer(batch, vectors, inference_time)
            }
            Ok(Ok(vectors)) => {
                self.fail(batch, &format!("the device gave {} vectors", vectors.len()));
            }
            Ok(Err(error)) => self.fail(batch, &error.to_string()),
            Err(panic) => {
                self.fail(batch, "the device panicked");
                return Err(panic);
            }
        }
        Ok(())
    }

    fn answer(&self, batch: FormedBatch, vectors: Vec<Vec<f32>>, inference_time: Duration) {
        for ((entry, queue_time), vector) in batch.entries.into_iter().zip(vectors) {
            let result = match vector.iter().all(|value| value.is_finite()) {
                true => Ok(Computed { vector, queue_time, inference_time }),
                false => Err(not_finite()),
            };
            self.reply(entry, result);
        }
    }

    fn fail(&self, batch: FormedBatch, reason: &str) {
        tracing::error!(texts = batch.entries.len(), tokens = batch.tokens, reason, "a batch failed");
        for (entry, _) in batch.entries {
            self.reply(entry, Err(ItemFailure::internal(format!("the batch of this text failed: {reason}"))));
        }
    }

    fn reply(&self, entry: Entry, result: Result<Computed, ItemFailure>) {
        self.metrics.text_answered(result.as_ref().map_or_else(|failure| failure.status, |_| ItemStatus::Ok));
        if entry.reply.send(result).is_err() {
            tracing::trace!("a caller went away while its text was computed");
        }
    }

    /// Makes the device until it works; `None` if the replica is told to stop meanwhile.
    fn remake(&self) -> Option<Box<dyn Device>> {
        loop {
            match catch_unwind(AssertUnwindSafe(|| (self.make)())) {
                Ok(Ok(device)) => return Some(device),
                Ok(Err(error)) => tracing::error!(%error, "the device could not be made anew"),
                Err(panic) => {
                    tracing::error!(panic = panic_message(panic.as_ref()), "making the device anew panicked");
                }
            }
            if self.queue.wait_closed(REMAKE_DELAY) {
                return None;
            }
        }
    }
}

fn not_finite() -> ItemFailure {
    let message = "the model gave NaN or infinity for this text".to_owned();
    ItemFailure { status: ItemStatus::NotFinite, message }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests;

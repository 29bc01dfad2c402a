//! From text to token ids, on threads of their own.
//!
//! Tokenizing a text takes some 100 µs of pure computing; done on the threads that serve sockets it would hold up every
//! other connection. The hand-over is bounded; a call whose caller has gone is skipped.

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use engine::TokenIds;
use tokio::sync::{mpsc, oneshot};

pub mod tokenizer;

pub use tokenizer::{Tokenized, Tokenizer, TokenizerLimits};

use crate::item::{Input, Item, ItemFailure};

/// Calls waiting to be tokenized, for each thread.
const CALLS_WAITING_PER_THREAD: usize = 64;

/// The tokenizer threads, shared by all models; they end when this is dropped.
#[derive(Debug)]
pub struct Intake {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    tokenizer: Arc<Tokenizer>,
    items: Vec<Item>,
    reply: oneshot::Sender<Vec<Result<Tokenized, ItemFailure>>>,
}

impl Intake {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(CALLS_WAITING_PER_THREAD * threads.get());
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.get() {
            let waiting = waiting.clone();
            thread::Builder::new().name(format!("tokenizer-{number}")).spawn(move || {
                while let Some(job) = next(&waiting) {
                    job.run()
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Tokenizes the items of one call, in their order. An item that is no text, or too long, fails alone.
    pub async fn tokenize(
        &self,
        tokenizer: &Arc<Tokenizer>,
        items: Vec<Item>,
    ) -> Vec<Result<Tokenized, ItemFailure>> {
        let count = items.len();
        let (reply, answer) = oneshot::channel();
        if self.jobs.send(Job { tokenizer: tokenizer.clone(), items, reply }).await.is_err() {
            return vec![Err(ItemFailure::internal("the tokenizer has stopped")); count];
        }
        answer
            .await
            .unwrap_or_else(|_| vec![Err(ItemFailure::internal("the tokenizer failed on this call")); count])
    }
}

/// One thread waits in here, the others wait for the lock: each job goes to exactly one.
fn next(waiting: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

impl Job {
    fn run(self) {
        if self.reply.is_closed() {
            return;
        }
        // A panic of the tokenizer library ends this call, not the thread.
        let tokenize =
            || self.items.iter().map(|item| tokenize_one(&self.tokenizer, item)).collect::<Vec<_>>();
        let results = std::panic::catch_unwind(std::panic::AssertUnwindSafe(tokenize));
        let results = results.unwrap_or_else(|_| {
            tracing::error!(texts = self.items.len(), "the tokenizer panicked");
            vec![Err(ItemFailure::internal("the tokenizer failed on this call")); self.items.len()]
        });
        if self.reply.send(results).is_err() {
            tracing::debug!("a call went away while it was tokenized");
        }
    }
}

fn tokenize_one(tokenizer: &Tokenizer, item: &Item) -> Result<Tokenized, ItemFailure> {
    match &item.input {
        Input::Text { prompt, text } => tokenizer.tokenize(prompt, text, item.truncation),
        Input::TokenIds(ids) => {
            let ids = TokenIds::new(ids.clone()).map_err(|error| ItemFailure::invalid(error.to_string()))?;
            tokenizer.check_ids(ids)
        }
    }
}

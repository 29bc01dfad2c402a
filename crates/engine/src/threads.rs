//! The engine's own threads. Each runs the whole encoder on its part of a batch, so that threads meet only at the end
//! of a batch and not at every matrix product.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::error::EmbedError;

/// Threads that live as long as the engine.
#[derive(Debug)]
pub(crate) struct Workers {
    pool: ThreadPool,
}

impl Workers {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: NonZeroUsize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|index| format!("engine-{index}"))
            .build()?;
        Ok(Self { pool })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on every part; a thread that is done takes the next part. Results keep the order of `parts`.
    ///
    /// A panic in `work` fails this call and leaves the threads alive.
    pub(crate) fn run<P, R, F>(&self, parts: Vec<P>, work: F) -> Result<Vec<R>, EmbedError>
    where
        P: Send,
        R: Send,
        F: Fn(P) -> R + Sync,
    {
        // A part left half done is dropped as a whole, and work only reads what it shares with other parts.
        let guarded = |part| catch_unwind(AssertUnwindSafe(|| work(part))).map_err(|panic| panicked(&*panic));
        self.pool.install(|| parts.into_par_iter().with_max_len(1).map(guarded).collect())
    }
}

fn panicked(panic: &(dyn Any + Send)) -> EmbedError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    EmbedError::Panicked { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(threads: usize) -> Workers {
        Workers::start(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[test]
    fn results_keep_the_order_of_the_parts() {
        let results = workers(3).run((0..100).collect(), |part: u32| part * 2).unwrap();
        assert_eq!(results, (0..100).map(|part| part * 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_fails_the_call_and_leaves_the_threads_usable() {
        let workers = workers(2);
        let failed = workers.run(vec![1, 2, 3, 4], |part| {
            assert_ne!(part, 3, "part three");
            part
        });
        assert!(matches!(failed, Err(EmbedError::Panicked { message }) if message.contains("part three")));
        assert_eq!(workers.run(vec![5, 6], |part| part).unwrap(), [5, 6]);
    }
}

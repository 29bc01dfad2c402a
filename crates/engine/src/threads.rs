//! The engine's own threads: each runs the whole encoder on its part of a batch, or all follow one thread through a
//! text.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kernels::Crew;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
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
    pub(crate) fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.pool.current_num_threads()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Runs `work` once, on the calling thread in place of one of these; the others follow it as a crew.
    ///
    /// A panic in `work`, or in what the crew shares, fails this call and leaves the threads alive.
    pub(crate) fn together<R>(&self, work: impl FnOnce(&Crew) -> R) -> Result<R, EmbedError> {
        let crew = Crew::new(self.threads().get());
        self.pool.in_place_scope(|scope| {
            for _ in 1..crew.members() {
                scope.spawn(|_| crew.follow());
            }
            // As below; the buffers of a pass that panics are not used again.
            let result = catch_unwind(AssertUnwindSafe(|| work(&crew)));
            crew.dismiss();
            result.map_err(|panic| panicked(&*panic))
        })
    }

    /// Runs `work` on every part; a thread that is done takes the next part. Results keep the order of `parts`.
    ///
    /// A panic in `work` fails this call and leaves the threads alive.
    pub(crate) fn run<P, R, F>(&self, parts: &[P], work: F) -> Result<Vec<R>, EmbedError>
    where
        P: Sync,
        R: Send,
        F: Fn(&P) -> R + Sync,
    {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        // A part left half done is dropped as a whole, and work only reads what it shares with other parts.
        let guarded = |part| catch_unwind(AssertUnwindSafe(|| work(part))).map_err(|panic| panicked(&*panic));
        self.pool.install(|| parts.par_iter().with_max_len(1).map(guarded).collect())
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
        let results = workers(3).run(&(0..100).collect::<Vec<u32>>(), |part| part * 2).unwrap();
        assert_eq!(results, (0..100).map(|part| part * 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_of_who_leads_a_crew_fails_the_call_and_leaves_the_threads_usable() {
        let workers = workers(3);
        let failed = workers.together(|_| panic!("before the pass"));
        let Err(EmbedError::Panicked { message }): Result<(), _> = failed else { panic!("no panic") };
        assert!(message.contains("before the pass"), "{message}");
        assert_eq!(workers.together(|crew| crew.members()).unwrap(), 3);
    }

    #[test]
    fn a_panic_fails_the_call_and_leaves_the_threads_usable() {
        let workers = workers(2);
        let failed = workers.run(&[1, 2, 3, 4], |part| {
            assert_ne!(*part, 3, "part three");
            *part
        });
        assert!(matches!(failed, Err(EmbedError::Panicked { message }) if message.contains("part three")));
        assert_eq!(workers.run(&[5, 6], |part| *part).unwrap(), [5, 6]);
    }
}

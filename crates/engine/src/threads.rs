//! The engine's own threads: each runs the whole encoder on its part of a batch, or all follow one thread through a
//! text.
//!
//! Some are sure to be used; spare ones help while the machine has cores for all who want one. So processes that share a
//! machine divide it while all of them work, and one that works alone has all of it.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kernels::Crew;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::cores::Cores;
use crate::error::EmbedError;

/// How long a spare thread waits for a core before it looks again: at first, and after many looks.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(10)];

/// How many threads an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// Used for every batch.
    pub sure: NonZeroUsize,
    /// Used as well while the machine has cores for all who want one, where Linux tells.
    pub spare: usize,
}

impl Threads {
    /// All of them.
    #[must_use]
    pub fn most(self) -> NonZeroUsize {
        self.sure.saturating_add(self.spare)
    }
}

impl From<NonZeroUsize> for Threads {
    /// Each of them sure.
    fn from(sure: NonZeroUsize) -> Self {
        Self { sure, spare: 0 }
    }
}

/// Threads that live as long as the engine.
#[derive(Debug)]
pub(crate) struct Workers {
    pool: ThreadPool,
    helpers: Helpers,
}

/// The spare ones.
#[derive(Debug)]
struct Helpers {
    pool: Option<ThreadPool>,
    cores: Arc<Cores>,
}

impl Workers {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: Threads) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self { pool: start_pool("engine", threads.sure.get())?, helpers: Helpers::start(threads.spare)? })
    }

    /// Runs `work` once, on the calling thread in place of one of these; the others follow it as a crew, and spare ones
    /// help.
    ///
    /// A panic in `work`, or in what the crew shares, fails this call and leaves the threads alive.
    pub(crate) fn together<R>(&self, work: impl FnOnce(&Crew) -> R) -> Result<R, EmbedError> {
        let crew = Arc::new(Crew::with_helpers(self.pool.current_num_threads(), self.helpers.count()));
        self.helpers.send_to(&crew);
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

    /// Runs `work` on every part, each led by one thread; one that is done takes the next part. Where there is only one, it
    /// is the calling thread, and spare ones help. Results keep the order of `parts`.
    ///
    /// A panic in `work` fails this call and leaves the threads alive.
    pub(crate) fn run<P, R, F>(&self, parts: &[P], work: F) -> Result<Vec<R>, EmbedError>
    where
        P: Sync,
        R: Send,
        F: Fn(&P, &Crew) -> R + Sync,
    {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        if self.pool.current_num_threads() == 1 {
            return parts.iter().map(|part| self.together(|crew| work(part, crew))).collect();
        }
        // A part left half done is dropped as a whole, and work only reads what it shares with other parts.
        let guarded = |part| {
            catch_unwind(AssertUnwindSafe(|| work(part, &Crew::new(1)))).map_err(|panic| panicked(&*panic))
        };
        self.pool.install(|| parts.par_iter().with_max_len(1).map(guarded).collect())
    }
}

impl Helpers {
    fn start(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        // A pool of none would be one of as many as there are cores.
        let pool = (threads > 0).then(|| start_pool("engine-spare", threads)).transpose()?;
        Ok(Self { pool, cores: Arc::new(Cores::of_machine()) })
    }

    fn count(&self) -> usize {
        self.pool.as_ref().map_or(0, ThreadPool::current_num_threads)
    }

    /// Nobody waits for them: they may sleep beyond the end of the pass.
    fn send_to(&self, crew: &Arc<Crew>) {
        let Some(pool) = &self.pool else { return };
        for _ in 0..pool.current_num_threads() {
            let (crew, cores) = (Arc::clone(crew), Arc::clone(&self.cores));
            pool.spawn(move || help(&crew, &cores));
        }
    }
}

/// Helps whenever there are cores enough, until the pass ends.
#[expect(
    clippy::disallowed_methods,
    reason = "Linux tells nobody that a core has become idle: one has to look"
)]
fn help(crew: &Crew, cores: &Cores) {
    let Some(mut helper) = crew.helper() else { return };
    let [mut pause, longest] = PAUSES;
    while !crew.has_ended() {
        if cores.are_enough() {
            helper.help(|| cores.are_enough());
            [pause, _] = PAUSES;
        } else {
            thread::sleep(pause);
            pause = longest.min(2 * pause);
        }
    }
}

fn start_pool(name: &'static str, threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(threads).thread_name(move |index| format!("{name}-{index}")).build()
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
        Workers::start(NonZeroUsize::new(threads).unwrap().into()).unwrap()
    }

    #[test]
    fn results_keep_the_order_of_the_parts() {
        for threads in [1, 3] {
            let results = workers(threads).run(&(0..100).collect::<Vec<u32>>(), |part, _| part * 2).unwrap();
            assert_eq!(results, (0..100).map(|part| part * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_of_who_leads_a_crew_fails_the_call_and_leaves_the_threads_usable() {
        let workers = workers(3);
        let failed = workers.together(|_| panic!("before the pass"));
        let Err(EmbedError::Panicked { message }): Result<(), _> = failed else { panic!("no panic") };
        assert!(message.contains("before the pass"), "{message}");
        assert_eq!(workers.together(|crew| crew.members()).unwrap(), 3);
    }

    /// Leads a pass beside a thread that helps where `cores` are enough, until it does, or for so many looks.
    fn is_helped(cores: &Cores, looks: usize) -> bool {
        let crew = Crew::with_helpers(1, 1);
        thread::scope(|scope| {
            scope.spawn(|| help(&crew, cores));
            let found = (0..looks).any(|_| crew.present() == 2);
            crew.dismiss();
            found
        })
    }

    #[test]
    fn spare_thread_helps_while_cores_are_enough() {
        assert!(is_helped(&Cores::of_test(2, "0.00 0.00 0.00 2/9 1"), usize::MAX));
    }

    #[test]
    fn spare_thread_leaves_cores_to_others_who_want_them() {
        assert!(!is_helped(&Cores::of_test(2, "0.00 0.00 0.00 3/9 1"), 100_000));
    }

    #[test]
    fn a_panic_fails_the_call_and_leaves_the_threads_usable() {
        for workers in [workers(1), workers(2)] {
            let failed = workers.run(&[1, 2, 3, 4], |part, _| {
                assert_ne!(*part, 3, "part three");
                *part
            });
            assert!(
                matches!(failed, Err(EmbedError::Panicked { message }) if message.contains("part three"))
            );
            assert_eq!(workers.run(&[5, 6], |part, _| *part).unwrap(), [5, 6]);
        }
    }
}

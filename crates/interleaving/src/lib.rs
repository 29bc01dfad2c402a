//! For tests: locks and atomics at which a test decides who goes on, and many ways to decide it.
//!
//! ```text
//!  crate under test ── its module `sync` ──┬─ in the program ──▶ std::sync
//!                                          └─ in unit tests ───▶ interleaving::sync ── turn ──▶ shuttle: who goes on?
//! ```
//!
//! Inside [`explore`] all threads of a test take turns on one thread of the system, and whoever takes or gives back a lock,
//! or touches an atomic, may have to let others go first. Which, is drawn by a seed, thousands of times. Outside of it these
//! are the types of std in a thin coat, so that other tests notice nothing.
//!
//! Goals: the code under test names no test library; a failure is had again by its seed.
//!
//! Non-goals: weak memory (what is written to an atomic is seen by all at once), and what happens inside of tokio, of which
//! each call is one step; whom it wakes is woken here too.

mod explore;

pub mod sync;

pub use explore::{explore, one_of};
pub use shuttle::{future::block_on, thread};

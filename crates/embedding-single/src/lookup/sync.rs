//! The locks and atomics around L1 and the flights: those of std, and in the unit tests those of `interleaving`, at which a
//! test decides who goes on.

#[cfg(test)]
pub(super) use interleaving::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(test))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic};

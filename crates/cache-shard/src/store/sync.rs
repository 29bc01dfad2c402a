//! The locks and atomics of the store: those of std, and in its unit tests those of `interleaving`, at which a test decides
//! who goes on.

#[cfg(test)]
pub(super) use interleaving::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
};
#[cfg(not(test))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

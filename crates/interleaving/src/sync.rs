//! What the crates under test use of `std::sync`, with a turn at each step.

pub mod atomic;

use std::{
    ops::{Deref, DerefMut},
    sync::{self, LockResult, PoisonError, TryLockError, TryLockResult, atomic::Ordering},
    time::Duration,
};

/// True inside of a test that decides who goes on.
fn is_controlled() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

/// Lets others go on, where the test says so.
fn turn() {
    if is_controlled() {
        // Nobody sleeps under shuttle: it is a turn, and unlike a yield no wish to come last.
        shuttle::thread::sleep(Duration::ZERO);
    }
}

/// Lets others go on once a lock is given back. A panic on its way up must not meet another one in between.
#[derive(Debug)]
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            turn();
        }
    }
}

/// Takes a lock: by asking for it again and again where whoever holds it waits for a turn on this same thread.
fn take<G>(attempt: impl Fn() -> TryLockResult<G>, wait: impl FnOnce() -> LockResult<G>) -> LockResult<G> {
    turn();
    while is_controlled() {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => shuttle::thread::yield_now(),
        }
    }
    wait()
}

fn coat<G, C>(taken: LockResult<G>, coat: impl Fn(G) -> C) -> LockResult<C> {
    taken.map(&coat).map_err(|poisoned| PoisonError::new(coat(poisoned.into_inner())))
}

/// [`std::sync::Mutex`].
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// [`std::sync::MutexGuard`]. Its fields are dropped in their order.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    guard: sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
    _turn: Turn,
}

impl<T> Mutex<T> {
    /// As in std.
    pub fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.coat(take(|| self.0.try_lock(), || self.0.lock()))
    }

    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        turn();
        match self.0.try_lock() {
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => Ok(self.coat(Err(poisoned))?),
            Ok(guard) => Ok(self.coat(Ok(guard))?),
        }
    }

    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }

    fn coat<'a>(&'a self, taken: LockResult<sync::MutexGuard<'a, T>>) -> LockResult<MutexGuard<'a, T>> {
        coat(taken, |guard| MutexGuard { guard, mutex: self, _turn: Turn })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// [`std::sync::RwLock`].
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

/// [`std::sync::RwLockReadGuard`]. Its fields are dropped in their order.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T> {
    guard: sync::RwLockReadGuard<'a, T>,
    _turn: Turn,
}

/// [`std::sync::RwLockWriteGuard`]. Its fields are dropped in their order.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T> {
    guard: sync::RwLockWriteGuard<'a, T>,
    _turn: Turn,
}

impl<T> RwLock<T> {
    /// As in std.
    pub fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let taken = take(|| self.0.try_read(), || self.0.read());
        coat(taken, |guard| RwLockReadGuard { guard, _turn: Turn })
    }

    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let taken = take(|| self.0.try_write(), || self.0.write());
        coat(taken, |guard| RwLockWriteGuard { guard, _turn: Turn })
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// [`std::sync::Condvar`].
#[derive(Debug, Default)]
pub struct Condvar {
    condvar: sync::Condvar,
    /// How often all were notified.
    notified: sync::atomic::AtomicU64,
}

impl Condvar {
    /// As in std.
    ///
    /// # Errors
    /// As in std.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { guard, mutex, .. } = guard;
        if !is_controlled() {
            return mutex.coat(self.condvar.wait(guard));
        }
        // Whoever notifies after this has the lock after us.
        let before = self.notified.load(Ordering::SeqCst);
        drop(guard);
        while self.notified.load(Ordering::SeqCst) == before {
            shuttle::thread::yield_now();
        }
        mutex.lock()
    }

    /// As in std.
    pub fn notify_all(&self) {
        turn();
        self.notified.fetch_add(1, Ordering::SeqCst);
        self.condvar.notify_all();
    }
}

//! One batch at a time, whichever model it is of.
//!
//! Every engine spreads a batch over all cores, so two batches at once would only take turns inside the system's
//! scheduler, and each would find its weights pushed out of the caches by the other. First come, first served: a model
//! under load leaves the device to another one after each batch.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The device's turns, shared by the workers of all models.
#[derive(Debug, Default)]
pub struct Turns {
    tickets: Mutex<Tickets>,
    moved: Condvar,
}

/// Invariant: `served` ≤ `drawn`.
#[derive(Debug, Default)]
struct Tickets {
    drawn: u64,
    served: u64,
}

/// The right to compute, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits behind those who came before.
    pub fn take(&self) -> Turn<'_> {
        let mut tickets = self.lock();
        let mine = tickets.drawn;
        tickets.drawn += 1;
        let waited = self.moved.wait_while(tickets, |tickets| tickets.served != mine);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Turn(self)
    }

    /// The numbers are consistent between statements, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().served += 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn only_one_computes_at_a_time() {
        let (turns, computing) = (Turns::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = turns.take();
                        assert_eq!(computing.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        computing.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn whoever_asks_first_is_served_before_the_one_who_has_just_computed() {
        let turns = Arc::new(Turns::default());
        let first = turns.take();
        let (order, ended) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn({
            let (turns, order) = (turns.clone(), order.clone());
            move || {
                let _turn = turns.take();
                order.send("who waited").unwrap();
            }
        });
        while turns.lock().drawn < 2 {
            std::thread::yield_now();
        }
        drop(first);
        let _again = turns.take();
        order.send("who computed").unwrap();
        waiter.join().unwrap();
        assert_eq!([ended.recv().unwrap(), ended.recv().unwrap()], ["who waited", "who computed"]);
    }

    #[test]
    fn a_turn_ends_with_a_panic_too() {
        let turns = Arc::new(Turns::default());
        let panicking = turns.clone();
        let ended = std::thread::spawn(move || {
            let _turn = panicking.take();
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        drop(turns.take());
    }
}

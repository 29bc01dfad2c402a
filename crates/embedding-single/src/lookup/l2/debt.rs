//! A clear that a shard has not heard of yet.
//!
//! ```text
//!  clear ── owe ─▶ Debt ── the shard is not asked for vectors ─▶ cleared ── pay ─▶ used again
//!                   └───── away, or not in the list: kept until it is back ───┘
//! ```
//!
//! It is owed before it is sent, so that a clear whose caller hangs up, or whose answer is late, is carried out too.
//!
//! Non-goals: it does not outlive the process. Whoever asked for the clear was told that it is not done.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one shard is owed.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// Clears asked for, and how many of them the shard has carried out.
    asked: AtomicU64,
    done: AtomicU64,
}

/// Which clear is due: those after it are not done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due(u64);

impl Debt {
    /// One more clear is owed.
    pub(super) fn owe(&self) -> Due {
        Due(self.asked.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// What is owed; none where nothing is.
    pub(super) fn due(&self) -> Option<Due> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked > self.done.load(Ordering::Acquire)).then_some(Due(asked))
    }

    /// A clear that was sent after `due` was read is done.
    pub(super) fn pay(&self, due: Due) {
        self.done.fetch_max(due.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_is_not_what_was_asked_for_later() {
        let debt = Debt::default();
        assert_eq!(debt.due(), None);
        let first = debt.owe();
        let second = debt.owe();
        debt.pay(first);
        assert_eq!(debt.due(), Some(second));
        debt.pay(second);
        debt.pay(first);
        assert_eq!(debt.due(), None);
    }
}

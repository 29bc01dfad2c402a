//! The shards there are now, and how one list becomes the next.
//!
//! ```text
//!  list ─▶ Registrar ─┬─ known name ─▶ the same Member, with all it has learned
//!                     ├─ new name ───▶ Member, and the join window begins
//!                     └─ name gone ──▶ its tasks end; what it is owed is kept for its return
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::transport::Error;

use super::{
    debt::Debt,
    member::{Member, Shared},
    rendezvous::{Ranked, Rendezvous},
    shard::Shard,
};
use crate::{
    config::{SHARDS_MAX, ShardAddress},
    key::CacheKey,
    metrics::Metrics,
    precision::Classes,
};

/// The shards at one moment.
#[derive(Debug)]
pub(super) struct Roster {
    members: Vec<Arc<Member>>,
    rendezvous: Rendezvous,
    /// Until when the second in rank may hold what the first does not.
    join_ends: Instant,
}

impl Roster {
    fn new(members: Vec<Arc<Member>>, join_ends: Instant) -> Arc<Self> {
        let rendezvous = Rendezvous::new(members.iter().map(|member| &**member.name()));
        Arc::new(Self { members, rendezvous, join_ends })
    }

    /// All of them.
    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Who ranks highest for `key`, as indices of [`Self::members`]; none without shards.
    pub(super) fn rank(&self, key: &CacheKey) -> Option<Ranked> {
        self.rendezvous.rank(key)
    }

    /// The owner of `key`; none without shards.
    pub(super) fn owner(&self, key: &CacheKey) -> Option<&Arc<Member>> {
        self.members.get(self.rank(key)?.first)
    }

    /// Whether a shard may have joined so lately that others still hold its keys.
    pub(super) fn is_joining(&self, now: Instant) -> bool {
        self.members.len() > 1 && now < self.join_ends
    }
}

/// What every shard of a proxy is given.
#[derive(Debug)]
pub(super) struct Terms {
    /// Namespace of the cache.
    pub(super) namespace: String,
    /// Precision classes that are taken.
    pub(super) classes: Classes,
    /// What they share.
    pub(super) shared: Shared,
    /// How long a join lasts.
    pub(super) join_window: Duration,
    /// Where they are counted.
    pub(super) metrics: Metrics,
    /// When all of them end.
    pub(super) stop: CancellationToken,
}

/// Keeps the roster.
#[derive(Debug)]
pub(super) struct Registrar {
    terms: Terms,
    roster: watch::Sender<Arc<Roster>>,
    /// Names that have left, the last ones first, and what they are owed.
    left: Mutex<VecDeque<(Arc<str>, Arc<Debt>)>>,
}

impl Registrar {
    /// No shards yet.
    pub(super) fn new(terms: Terms) -> Self {
        let roster = watch::Sender::new(Roster::new(Vec::new(), Instant::now()));
        Self { terms, roster, left: Mutex::default() }
    }

    /// The shards now.
    pub(super) fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Takes `list`, of which no name comes twice, in the place of the one before.
    ///
    /// # Errors
    /// If one of them cannot be connected to; nothing has changed then.
    pub(super) fn replace(&self, list: &[ShardAddress]) -> Result<(), Error> {
        let before = self.roster();
        let known = |name: &str| before.members.iter().find(|member| &**member.name() == name);
        let is_joined = list.iter().any(|address| known(&address.name).is_none());
        let members = list.iter().map(|address| match known(&address.name) {
            Some(member) => Ok(member.clone()),
            None => self.enlist(address),
        });
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let gone =
            before.members.iter().filter(|member| list.iter().all(|kept| kept.name != **member.name()));
        let is_left = self.note_left(gone);
        if is_joined || is_left {
            self.terms.shared.room.divide(members.len());
            let join_ends =
                if is_joined { Instant::now() + self.terms.join_window } else { before.join_ends };
            let names: Vec<_> = members.iter().map(|member| &**member.name()).collect();
            tracing::info!(shards = names.join(","), "the cache shards are these");
            self.roster.send_replace(Roster::new(members, join_ends));
        }
        Ok(())
    }

    fn enlist(&self, address: &ShardAddress) -> Result<Arc<Member>, Error> {
        let Terms { namespace, classes, shared, metrics, stop, .. } = &self.terms;
        let shard = Shard::new(&address.url, namespace, classes.clone())?;
        let metrics = metrics.of_shard(address.name.as_str().into());
        Ok(Arc::new(Member::start(shard, shared, self.debt_of(&address.name), metrics, stop)))
    }

    /// What a shard of this name is owed from before.
    fn debt_of(&self, name: &str) -> Arc<Debt> {
        let left = self.left();
        left.iter().find(|(known, _)| &**known == name).map(|(_, debt)| debt.clone()).unwrap_or_default()
    }

    /// True where there was any.
    fn note_left<'a>(&self, gone: impl Iterator<Item = &'a Arc<Member>>) -> bool {
        let mut left = self.left();
        let mut is_left = false;
        for member in gone {
            is_left = true;
            member.leave();
            left.retain(|(known, _)| known != member.name());
            left.push_front((member.name().clone(), member.debt().clone()));
        }
        // A shard that left so long ago comes back as one that nobody knows.
        left.truncate(SHARDS_MAX);
        is_left
    }

    /// Shards that have left and may come back owe a clear from now on.
    pub(super) fn owe_those_that_left(&self) {
        let now = self.roster();
        for (name, debt) in self.left().iter() {
            if now.members.iter().all(|member| member.name() != name) {
                debt.owe();
            }
        }
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Arc<Debt>)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The shards there are now, and how one list becomes the next.
//!
//! ```text
//!  list ─▶ Registrar ─┬─ known name ─▶ the same Member, with all it has learned
//!                     ├─ new name ───▶ Member, fresh for the join window
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
    rendezvous::Rendezvous,
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
    /// When each of them joined.
    joins: Vec<Join>,
}

/// When a shard joined.
#[derive(Debug, Clone, Copy)]
struct Join {
    /// Those that join within one window join together; 0 is the first list, of which nobody knows who was there before.
    round: u32,
    /// Until when others may hold its keys.
    fresh_until: Instant,
}

impl Roster {
    fn new(members: Vec<(Arc<Member>, Join)>) -> Arc<Self> {
        let (members, joins): (Vec<_>, _) = members.into_iter().unzip();
        let rendezvous = Rendezvous::new(members.iter().map(|member: &Arc<Member>| &**member.name()));
        Arc::new(Self { members, rendezvous, joins })
    }

    /// All of them.
    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Who owns `key`, as index of [`Self::members`]; none without shards.
    pub(super) fn rank(&self, key: &CacheKey) -> Option<usize> {
        self.rendezvous.highest(key, |_| true)
    }

    /// The owner of `key`; none without shards.
    pub(super) fn owner(&self, key: &CacheKey) -> Option<&Arc<Member>> {
        self.members.get(self.rank(key)?)
    }

    /// Whether any of them joined so lately that others may still hold its keys.
    pub(super) fn is_joining(&self, now: Instant) -> bool {
        self.members.len() > 1 && self.joins.iter().any(|join| now < join.fresh_until)
    }

    /// Who owned `key` before its owner joined, as index of [`Self::members`], if that was so lately that it may still hold
    /// what the owner does not. Of the first list it is who would own it without the owner, which may be the last to have
    /// been added to it.
    pub(super) fn rank_before(&self, key: &CacheKey, now: Instant) -> Option<usize> {
        let owner = self.rank(key)?;
        let Join { round, fresh_until } = *self.joins.get(owner)?;
        if now >= fresh_until {
            return None;
        }
        self.rendezvous.highest(key, |other| match round {
            0 => other != owner && self.joins[other].round == 0,
            _ => self.joins[other].round < round,
        })
    }

    /// The round in which a shard joins that joins now.
    fn round(&self, now: Instant) -> u32 {
        match self.joins.iter().max_by_key(|join| (join.round, join.fresh_until)) {
            None => 0,
            Some(last) if last.round > 0 && now < last.fresh_until => last.round,
            Some(last) => last.round + 1,
        }
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
    /// How long a shard that joined is fresh.
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
        let roster = watch::Sender::new(Roster::new(Vec::new()));
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
        let (before, now) = (self.roster(), Instant::now());
        let join = Join { round: before.round(now), fresh_until: now + self.terms.join_window };
        let known = |name: &str| before.members.iter().position(|member| &**member.name() == name);
        let is_joined = list.iter().any(|address| known(&address.name).is_none());
        let members = list.iter().map(|address| match known(&address.name) {
            Some(index) => Ok((before.members[index].clone(), before.joins[index])),
            None => Ok((self.enlist(address)?, join)),
        });
        let members = members.collect::<Result<Vec<_>, Error>>()?;
        let gone =
            before.members.iter().filter(|member| list.iter().all(|kept| kept.name != **member.name()));
        let is_left = self.note_left(gone);
        if is_joined || is_left {
            self.terms.shared.room.divide(members.len());
            let names: Vec<_> = members.iter().map(|(member, _)| &**member.name()).collect();
            tracing::info!(shards = names.join(","), "the cache shards are these");
            self.roster.send_replace(Roster::new(members));
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

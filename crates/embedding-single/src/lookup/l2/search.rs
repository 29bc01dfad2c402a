//! The lookup of one request: every shard is asked once for the keys it owns and, while a shard may have joined, once for
//! those that their owner does not hold.
//!
//! ```text
//!  keys ─┬─▶ first in rank ── hit ──────────────────────────────────────────▶ taken at once, whatever the others do
//!        │        └─ miss, and a join lasts ─▶ second in rank ── hit ──┬────▶ taken
//!        │                                                             └────▶ written to the first
//!        └─ all within one deadline; whoever is late has missed
//! ```
//!
//! Non-goals: no third in rank. Where two shards join at once, a key that both of them precede its old owner for is
//! computed again.

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::{Draft, Found, member::Member, roster::Roster};
use crate::{key::CacheKey, metrics::Metrics, models::Model};

/// What is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// Where.
    pub(super) roster: &'a Roster,
    /// Of which model.
    pub(super) model: &'a Model,
    /// What.
    pub(super) keys: &'a [CacheKey],
    /// Until when.
    pub(super) deadline: Instant,
    /// Where it is counted.
    pub(super) metrics: &'a Metrics,
}

/// The part of one shard: indices of the keys.
type Share = Vec<usize>;

impl Search<'_> {
    /// Gives `take` each vector with the index of its key, as soon as its shard has answered.
    pub(super) async fn run(&self, mut take: impl FnMut(usize, Found)) {
        let missing = self.ask_first(&mut take).await;
        let now = Instant::now();
        if !missing.is_empty() && self.roster.is_joining(now) && now < self.deadline {
            self.ask_second(&missing, &mut take).await;
        }
    }

    /// Answers the indices of what was not found.
    async fn ask_first(&self, take: &mut impl FnMut(usize, Found)) -> Vec<usize> {
        let shares = self.divide(0..self.keys.len(), |key| Some(self.roster.rank(key)?.first));
        let mut answers: FuturesUnordered<_> = shares
            .into_iter()
            .map(|(member, share)| async move {
                let found = member.look_up(self.model, &self.keys_of(&share), self.deadline).await;
                (share, found)
            })
            .collect();
        let mut missing = Vec::new();
        while let Some((share, found)) = answers.next().await {
            for (index, found) in share.into_iter().zip(found) {
                match found {
                    Some(found) => take(index, found),
                    None => missing.push(index),
                }
            }
        }
        missing
    }

    async fn ask_second(&self, missing: &[usize], take: &mut impl FnMut(usize, Found)) {
        let shares = self.divide(missing.iter().copied(), |key| self.roster.rank(key)?.second);
        let mut answers: FuturesUnordered<_> = shares
            .into_iter()
            .map(|(member, share)| async move {
                let keys = self.keys_of(&share);
                let is_settled = member.is_settled();
                // Taken before the shard is asked: what it gives is not stored where a clear came between.
                let drafts: Vec<_> = keys.iter().map(|key| self.draft(key).filter(|_| is_settled)).collect();
                let found = member.look_up_as_second(self.model, &keys, self.deadline).await;
                share.into_iter().zip(drafts.into_iter().zip(found))
            })
            .collect();
        let mut finds = 0;
        while let Some(answer) = answers.next().await {
            for (index, (draft, found)) in answer {
                let Some(found) = found else { continue };
                finds += 1;
                if let Some(draft) = draft {
                    draft.until(Instant::now() + found.remaining).send(&found.vector);
                }
                take(index, found);
            }
        }
        self.metrics.second(missing.len(), finds);
    }

    /// The indices by the shard that `choose` names for their keys.
    fn divide(
        &self,
        indices: impl Iterator<Item = usize>,
        choose: impl Fn(&CacheKey) -> Option<usize>,
    ) -> Vec<(&Member, Share)> {
        let mut shares: Vec<_> =
            self.roster.members().iter().map(|member| (&**member, Share::new())).collect();
        for index in indices {
            if let Some(chosen) = choose(&self.keys[index]) {
                shares[chosen].1.push(index);
            }
        }
        shares.retain(|(_, share)| !share.is_empty());
        shares
    }

    fn keys_of(&self, share: &[usize]) -> Vec<CacheKey> {
        share.iter().map(|index| self.keys[*index]).collect()
    }

    fn draft(&self, key: &CacheKey) -> Option<Draft> {
        Draft::of(self.roster.owner(key)?, *key, self.model)
    }
}

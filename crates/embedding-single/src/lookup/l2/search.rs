//! The lookup of one request: every shard is asked once for the keys it owns and, where their owner has joined lately and
//! does not hold them, once for those it owned before.
//!
//! ```text
//!  keys ─┬─▶ owner ── hit ──────────────────────────────────────────────────▶ taken at once, whatever the others do
//!        │     └─ miss, and it is fresh ─▶ owner before it ── hit ──┬───────▶ taken
//!        │                                                          └───────▶ written to the owner
//!        └─ all within one deadline; whoever is late has missed
//! ```
//!
//! Non-goals: no third. A proxy that starts with a list that several shards were added to cannot know which: it asks who
//! would own a key without its owner, and a key that two new ones precede its old owner for is computed again.

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::{Draft, Found, member::Member, roster::Roster};
use crate::{key::CacheKey, metrics::Metrics, served::Model};

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
            self.ask_those_before(&missing, now, &mut take).await;
        }
    }

    /// Answers the indices of what was not found.
    async fn ask_first(&self, take: &mut impl FnMut(usize, Found)) -> Vec<usize> {
        let shares = self.divide(0..self.keys.len(), |key| self.roster.rank(key));
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

    async fn ask_those_before(&self, missing: &[usize], now: Instant, take: &mut impl FnMut(usize, Found)) {
        let shares = self.divide(missing.iter().copied(), |key| self.roster.rank_before(key, now));
        let asks = shares.iter().map(|(_, share)| share.len()).sum();
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
        self.metrics.second(asks, finds);
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
        Some(Draft::of(self.roster.owner(key)?.origin()?, *key, self.model))
    }
}

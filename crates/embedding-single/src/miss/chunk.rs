//! The queue of misses that wait for a call, and how chunks are cut from it.
//!
//! A chunk holds texts of one model, no more of them and no more bytes than one call may carry, and no more than this
//! call's share where several calls are free: ten texts and four free calls make chunks of 3, 3, 2, 2.

use std::{collections::VecDeque, num::NonZeroUsize};

use tokio::time::Instant;

use crate::{
    config::MissLimits,
    metrics::Metrics,
    miss::{Miss, MissError},
};

/// The refusal of misses that find no room.
pub(crate) fn queue_is_full() -> MissError {
    MissError::Overloaded("the queue of missing texts is full".to_owned())
}

/// Misses of one model, in the order they came.
#[derive(Debug)]
struct Lane {
    identity: String,
    misses: VecDeque<Miss>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// None is empty.
    lanes: Vec<Lane>,
    texts: usize,
    bytes: usize,
    limits: MissLimits,
    metrics: Metrics,
}

impl Waiting {
    /// An empty queue.
    pub(crate) fn new(limits: &MissLimits, metrics: Metrics) -> Self {
        Self { lanes: Vec::new(), texts: 0, bytes: 0, limits: *limits, metrics }
    }

    /// Takes in the misses of one request, which are all of one model.
    ///
    /// # Errors
    /// Gives them back where they do not fit.
    pub(crate) fn push(&mut self, misses: Vec<Miss>) -> Result<(), Vec<Miss>> {
        let bytes: usize = misses.iter().map(|miss| miss.bytes()).sum();
        if !self.fits(misses.len(), bytes) {
            self.drop_abandoned();
            if !self.fits(misses.len(), bytes) {
                return Err(misses);
            }
        }
        let Some(identity) = misses.first().map(|miss| miss.model.identity.as_str()) else { return Ok(()) };
        self.texts += misses.len();
        self.bytes += bytes;
        match self.lanes.iter_mut().find(|lane| lane.identity == identity) {
            Some(lane) => lane.misses.extend(misses),
            None => self.lanes.push(Lane { identity: identity.to_owned(), misses: misses.into() }),
        }
        Ok(())
    }

    /// Cuts the chunk for one of `free` calls; empty where nothing waits.
    pub(crate) fn take(&mut self, free: NonZeroUsize, now: Instant) -> Vec<Miss> {
        let mut chunk = Vec::new();
        while chunk.is_empty() && self.texts > 0 {
            let share = self.texts.div_ceil(free.get());
            chunk = self.cut(share, now);
        }
        chunk
    }

    /// A chunk from the lane whose first miss has waited longest; empty where all that was met is past waiting for.
    fn cut(&mut self, share: usize, now: Instant) -> Vec<Miss> {
        let waited = |lane: &Lane| lane.misses.front().map(|miss| miss.queued_at);
        let Some(oldest) = (0..self.lanes.len()).min_by_key(|index| waited(&self.lanes[*index])) else {
            return Vec::new();
        };
        let lane = &mut self.lanes[oldest];
        let mut chunk: Vec<Miss> = Vec::new();
        let mut chunk_bytes = 0;
        while let Some(miss) = lane.misses.pop_front() {
            let texts_max = share.min(self.limits.chunk_texts_max).min(miss.model.items_max);
            let is_full =
                chunk.len() >= texts_max || chunk_bytes + miss.bytes() > self.limits.chunk_bytes_max;
            if is_full && !chunk.is_empty() {
                lane.misses.push_front(miss);
                break;
            }
            self.texts -= 1;
            self.bytes -= miss.bytes();
            if miss.ticket.is_abandoned() {
                self.metrics.abandoned();
            } else if miss.deadline <= now {
                miss.ticket.complete(Err(MissError::DeadlineExceeded));
            } else {
                chunk_bytes += miss.bytes();
                chunk.push(miss);
            }
        }
        if lane.misses.is_empty() {
            self.lanes.swap_remove(oldest);
        }
        chunk
    }

    fn fits(&self, texts: usize, bytes: usize) -> bool {
        self.texts + texts <= self.limits.queue_texts_max && self.bytes + bytes <= self.limits.queue_bytes_max
    }

    fn drop_abandoned(&mut self) {
        let metrics = &self.metrics;
        for lane in &mut self.lanes {
            lane.misses.retain(|miss| {
                let abandoned = miss.ticket.is_abandoned();
                if abandoned {
                    metrics.abandoned();
                }
                !abandoned
            });
        }
        self.lanes.retain(|lane| !lane.misses.is_empty());
        let left = || self.lanes.iter().flat_map(|lane| &lane.misses);
        self.texts = left().count();
        self.bytes = left().map(|miss| miss.bytes()).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use protocol::inference::Truncation;

    use super::*;
    use crate::{
        key::CacheKey,
        lookup::{
            l1::L1,
            single_flight::{Flights, Waiter},
        },
        served::{self, Model},
    };

    const LIMITS: MissLimits = MissLimits {
        calls_max: 4,
        chunk_texts_max: 5,
        chunk_bytes_max: 20,
        queue_texts_max: 12,
        queue_bytes_max: 100,
        compute_timeout: Duration::from_secs(30),
    };

    fn model(identity: &str) -> Arc<Model> {
        let identity = identity.to_owned();
        Arc::new(Model { identity, items_max: usize::MAX, ..served::tests::model() })
    }

    fn miss(text: &str, identity: &str) -> (Waiter, Miss) {
        let (waiter, ticket) = Flights::new(Arc::new(L1::new(0, 0))).alone(CacheKey([0; 32]));
        let now = Instant::now();
        let miss = Miss {
            text: text.to_owned(),
            prompt: "".into(),
            truncation: Truncation::Right,
            model: model(identity),
            ticket,
            draft: None,
            l2_time: Duration::ZERO,
            queued_at: now,
            deadline: now + LIMITS.compute_timeout,
        };
        (waiter, miss)
    }

    fn queue(texts: &[&str]) -> (Vec<Waiter>, Waiting) {
        let (waiters, misses) = texts.iter().map(|text| miss(text, "a")).unzip();
        let mut waiting = Waiting::new(&LIMITS, Metrics::new());
        waiting.push(misses).unwrap();
        (waiters, waiting)
    }

    fn take(waiting: &mut Waiting, free: usize) -> Vec<String> {
        let chunk = waiting.take(NonZeroUsize::new(free).unwrap(), Instant::now());
        chunk.into_iter().map(|miss| miss.text).collect()
    }

    #[test]
    fn misses_are_spread_evenly_over_the_free_calls() {
        let (_waiters, mut waiting) = queue(&["t"; 10]);
        let sizes: Vec<_> = (1..=4).rev().map(|free| take(&mut waiting, free).len()).collect();
        assert_eq!(sizes, [3, 3, 2, 2]);
        assert!(take(&mut waiting, 1).is_empty());
    }

    #[test]
    fn a_chunk_keeps_order_and_both_limits() {
        let (_waiters, mut waiting) = queue(&["1", "2", "3", "4", "5", "6", "seven seven", "eight eight"]);
        assert_eq!(take(&mut waiting, 1), ["1", "2", "3", "4", "5"]);
        assert_eq!(take(&mut waiting, 1), ["6", "seven seven"]);
        assert_eq!(take(&mut waiting, 1), ["eight eight"]);
    }

    #[test]
    fn a_text_over_the_bytes_of_a_chunk_goes_alone() {
        let (_waiters, mut waiting) = queue(&["1", "a text of more than twenty bytes", "3"]);
        let chunks: Vec<_> = (0..3).map(|_| take(&mut waiting, 1).len()).collect();
        assert_eq!(chunks, [1, 1, 1]);
    }

    #[test]
    fn models_are_never_mixed_and_the_oldest_goes_first() {
        let mut waiting = Waiting::new(&LIMITS, Metrics::new());
        let mut waiters = Vec::new();
        for (text, identity) in [("a1", "a"), ("b1", "b"), ("a2", "a")] {
            let (waiter, miss) = miss(text, identity);
            waiters.push(waiter);
            waiting.push(vec![miss]).unwrap();
        }
        assert_eq!(take(&mut waiting, 1), ["a1", "a2"]);
        assert_eq!(take(&mut waiting, 1), ["b1"]);
    }

    #[test]
    fn abandoned_misses_are_not_sent() {
        let (mut waiters, mut waiting) = queue(&["1", "2", "3"]);
        drop(waiters.remove(1));
        assert_eq!(take(&mut waiting, 1), ["1", "3"]);
        let (waiters, mut waiting) = queue(&["1", "2", "3"]);
        drop(waiters);
        assert!(take(&mut waiting, 1).is_empty());
        assert_eq!((waiting.texts, waiting.bytes, waiting.lanes.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_miss_past_its_deadline_is_failed_instead_of_sent() {
        let (mut waiters, mut waiting) = queue(&["1"]);
        tokio::time::advance(LIMITS.compute_timeout).await;
        assert!(take(&mut waiting, 1).is_empty());
        assert_eq!(waiters[0].outcome().await.unwrap_err(), MissError::DeadlineExceeded);
    }

    #[test]
    fn a_full_queue_gives_back_what_does_not_fit_until_abandoned_ones_make_room() {
        let (mut waiters, mut waiting) = queue(&["t"; 12]);
        let (_waiter, late) = miss("late", "a");
        let refused = waiting.push(vec![late]).unwrap_err();
        drop(waiters.pop());
        assert!(waiting.push(refused).is_ok());
        assert_eq!((waiting.texts, waiting.bytes), (12, 11 + 4));
        let (_waiter, huge) = miss(&"x".repeat(90), "a");
        assert!(waiting.push(vec![huge]).is_err());
    }
}

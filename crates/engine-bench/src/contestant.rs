//! What can take a turn: the engine with one of its ways to compute, or a peer.

use std::time::Duration;

use anyhow::Result;

use crate::texts::Order;

/// Somebody who computes all texts when it is their turn.
pub(crate) trait Contestant {
    /// The time of all texts in `order`, each once.
    fn run(&mut self, order: Order) -> Result<Duration>;

    /// The time of each of `times` lone short queries.
    fn query(&mut self, times: usize) -> Result<Vec<Duration>>;

    /// The vector of every text, in arrival order.
    fn vectors(&mut self) -> Result<Vec<Vec<f32>>>;
}

//! The engine as a contestant.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::Result;
use engine::{Engine, RaggedBatch};

use crate::contestant::Contestant;
use crate::texts::{Order, Texts};

/// A loaded engine and its batches in both orders.
pub(crate) struct Ours {
    engine: Engine,
    arrival: Vec<RaggedBatch>,
    sorted: Vec<RaggedBatch>,
    query: RaggedBatch,
}

impl Ours {
    /// `engine` with `texts` in batches of `batch_texts`.
    pub(crate) fn new(engine: Engine, texts: &Texts, batch_texts: NonZeroUsize) -> Result<Self> {
        let batches = |order| -> Result<Vec<RaggedBatch>> {
            let texts = texts.in_order(order);
            texts.chunks(batch_texts.get()).map(|part| Ok(RaggedBatch::new(part.iter().copied())?)).collect()
        };
        Ok(Self {
            engine,
            arrival: batches(Order::Arrival)?,
            sorted: batches(Order::Sorted)?,
            query: RaggedBatch::new([texts.query()])?,
        })
    }
}

impl Contestant for Ours {
    fn run(&mut self, order: Order) -> Result<Duration> {
        let batches = match order {
            Order::Arrival => &self.arrival,
            Order::Sorted => &self.sorted,
        };
        let start = Instant::now();
        for batch in batches {
            self.engine.embed(batch)?;
        }
        Ok(start.elapsed())
    }

    fn query(&mut self, times: usize) -> Result<Vec<Duration>> {
        let one = |_| {
            let start = Instant::now();
            self.engine.embed(&self.query)?;
            Ok(start.elapsed())
        };
        (0..times).map(one).collect()
    }

    fn vectors(&mut self) -> Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::new();
        for batch in &self.arrival {
            let pooled = self.engine.embed(batch)?;
            vectors.extend(pooled.rows().map(<[f32]>::to_vec));
        }
        Ok(vectors)
    }
}

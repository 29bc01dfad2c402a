//! Cost against the length of a text, and against the number of texts in a batch.

mod chart;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use engine::{Engine, RaggedBatch, TokenIds};
use serde::Serialize;

use crate::figures::Spread;
use crate::machine::Machine;
use crate::texts::random_ids;
use crate::timing;
use chart::Chart;

/// The shortest text; each next one is twice as long.
const LENGTH_FIRST: usize = 8;
/// Tokens of a batch of equal texts, where a text is not longer itself.
const BATCH_TOKENS: usize = 4096;
/// Texts of a batch, where lengths are equal: each next is twice as many.
const BATCH_TEXTS_MAX: usize = 256;
/// The tokens of each text where the number of texts varies.
const TEXT_TOKENS: usize = 80;
/// How long a point is measured, in as many batches as fit.
const TIME_PER_POINT: Duration = Duration::from_millis(400);

/// What one engine costs, measured over lengths and batch sizes.
#[derive(Debug, Serialize)]
pub(crate) struct Curves {
    /// What it computes with.
    pub(crate) name: String,
    /// (tokens of a text, microseconds of a token).
    pub(crate) by_length: Vec<(f64, f64)>,
    /// (texts of a batch, texts a second).
    pub(crate) by_batch: Vec<(f64, f64)>,
}

/// Measures `engine` up to its own longest text, all points once in each round: the fastest round of a point counts, in
/// which the machine's neighbours had least to do.
pub(crate) fn measure(engine: &Engine, name: String, rounds: NonZeroUsize) -> Result<Curves> {
    let doubling = |first: usize, last: usize| {
        std::iter::successors(Some(first), |value| Some(value * 2)).take_while(move |value| *value <= last)
    };
    let equal = |texts: usize, tokens: usize| -> Result<RaggedBatch> {
        let text: TokenIds = random_ids(tokens, engine.vocabulary())?;
        Ok(RaggedBatch::new(vec![&text; texts])?)
    };
    let lengths: Vec<usize> = doubling(LENGTH_FIRST, engine.tokens_max()).collect();
    let sizes: Vec<usize> = doubling(1, BATCH_TEXTS_MAX).collect();
    let mut batches = Vec::new();
    for &tokens in &lengths {
        batches.push(equal((BATCH_TOKENS / tokens).max(1), tokens)?);
    }
    for &texts in &sizes {
        batches.push(equal(texts, TEXT_TOKENS.min(engine.tokens_max()))?);
    }
    let fastest = fastest(engine, &name, &batches, rounds)?;
    let (by_length, by_batch) = fastest.split_at(lengths.len());
    let cost = |(seconds, batch): (&f64, &RaggedBatch)| 1e6 * seconds / batch.tokens() as f64;
    let costs = by_length.iter().zip(&batches).map(cost);
    let rates = by_batch.iter().zip(&sizes).map(|(seconds, texts)| *texts as f64 / seconds);
    Ok(Curves {
        name,
        by_length: lengths.iter().map(|tokens| *tokens as f64).zip(costs).collect(),
        by_batch: sizes.iter().map(|texts| *texts as f64).zip(rates).collect(),
    })
}

/// The seconds of each batch in the fastest of the rounds.
fn fastest(engine: &Engine, name: &str, batches: &[RaggedBatch], rounds: NonZeroUsize) -> Result<Vec<f64>> {
    let mut fastest = vec![f64::INFINITY; batches.len()];
    for round in 1..=rounds.get() {
        for (fastest, batch) in fastest.iter_mut().zip(batches) {
            let (texts, tokens) = (batch.texts(), batch.tokens());
            crate::progress(&format!("{name}, round {round} of {rounds}: {texts} texts, {tokens} tokens"));
            *fastest = fastest.min(seconds(engine, batch)?);
        }
    }
    Ok(fastest)
}

/// The median of some batches after one that is not counted.
fn seconds(engine: &Engine, batch: &RaggedBatch) -> Result<f64> {
    let times = timing::seconds(TIME_PER_POINT, || {
        engine.embed(batch)?;
        Ok(())
    })?;
    Ok(Spread::of(&times).context("nothing was measured")?.median)
}

/// Writes the plots and the figures behind them; says where.
pub(crate) fn write(dir: &Path, model: &str, threads: NonZeroUsize, curves: &[Curves]) -> Result<String> {
    std::fs::create_dir_all(dir)?;
    let machine = Machine::here();
    let on = format!("{model}, {threads} threads of {}", machine.cpu);
    let of = |points: fn(&Curves) -> &Vec<(f64, f64)>| -> Vec<(&str, &[(f64, f64)])> {
        curves.iter().map(|curves| (curves.name.as_str(), points(curves).as_slice())).collect()
    };
    let length = Chart {
        title: "Cost of a token by the length of its text".to_owned(),
        x: format!("tokens of a text ({on})"),
        y: "microseconds a token",
        lines: of(|curves| &curves.by_length),
    };
    let batch = Chart {
        title: format!("Texts of {TEXT_TOKENS} tokens a second by the number of texts in a batch"),
        x: format!("texts of a batch ({on})"),
        y: "texts a second",
        lines: of(|curves| &curves.by_batch),
    };
    let mut written = Vec::new();
    for (name, chart) in [("cost-by-length.svg", length), ("rate-by-batch.svg", batch)] {
        std::fs::write(dir.join(name), chart.draw()?)?;
        written.push(dir.join(name).display().to_string());
    }
    let figures = dir.join("figures.json");
    let json =
        serde_json::json!({ "machine": machine, "model": model, "threads": threads, "curves": curves });
    std::fs::write(&figures, format!("{json:#}\n"))?;
    written.push(figures.display().to_string());
    Ok(format!("written: {}", written.join(", ")))
}

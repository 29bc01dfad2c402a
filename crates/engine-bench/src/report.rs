//! The report: a table for people, JSON for programs, the same figures in both.

use std::num::NonZeroUsize;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::figures::{Agreement, Spread, quantile};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::peak::Peaks;
use crate::texts::Order;
use crate::turns::{Entry, Label, Side};

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    /// Directory of the model.
    pub(crate) model: String,
    /// Where the texts come from.
    pub(crate) texts: String,
    /// Number of texts.
    pub(crate) count: usize,
    /// Tokens of all texts.
    pub(crate) tokens: usize,
    /// Tokens of the short query.
    pub(crate) query_tokens: usize,
    /// Where texts are cut.
    pub(crate) tokens_max: NonZeroUsize,
    /// Turns of each.
    pub(crate) rounds: NonZeroUsize,
    /// Operations of the linear layers for all texts.
    pub(crate) linear_operations: f64,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    setting: Setting,
    machine: Machine,
    peaks: Peaks,
    rows: Vec<Row>,
    /// Who did not take part, and why.
    left_out: Vec<(String, String)>,
}

/// One contestant in one order.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    label: Label,
    order: Order,
    texts_per_second: Spread,
    tokens_per_second: f64,
    /// Part of the peak of its instructions.
    peak_share: Option<f64>,
    query_ms_p50: Option<f64>,
    query_ms_p99: Option<f64>,
    #[serde(flatten)]
    agreement: Option<Agreement>,
    #[serde(flatten)]
    memory: Option<Memory>,
    /// Its texts a second by those of the fastest peer.
    by_best_peer: Option<f64>,
    /// The p50 of its short query by that of the quickest peer.
    query_by_best_peer: Option<f64>,
}

impl Report {
    /// Computes the figures of `entries`.
    pub(crate) fn new(
        setting: Setting,
        machine: Machine,
        entries: &[Entry],
        mut left_out: Vec<(String, String)>,
        peaks: Peaks,
    ) -> Self {
        let mut rows = Vec::new();
        for entry in entries {
            if let Some(failed) = &entry.failed {
                left_out.push((entry.label.name.clone(), failed.clone()));
                continue;
            }
            let of = |(order, seconds): &(Order, Vec<f64>)| row(entry, *order, seconds, &setting, &peaks);
            rows.extend(entry.runs.iter().filter_map(of));
        }
        compare_with_peers(&mut rows);
        Self { setting, machine, peaks, rows, left_out }
    }

    /// As JSON on one line, or as a table with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(crate) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        Ok(format!("{}\n{}", self.table(), self.notes().join("\n")))
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let has_peers = self.rows.iter().any(|row| row.label.side == Side::Peer);
        let mut header = vec![
            "with",
            "threads",
            "order",
            "setting",
            "texts/s",
            "min–max",
            "tokens/s",
            "of peak",
            "query p50",
            "p99",
            "cosine mean",
            "min",
        ];
        if has_peers {
            header.extend(["texts/s by best peer", "p50 by best peer"]);
        }
        table.set_header(header);
        for row in &self.rows {
            let mut cells = row.cells();
            if has_peers {
                let ratio = |value: Option<f64>| shown(value, |value| format!("{value:.2}"));
                cells.extend([ratio(row.by_best_peer), ratio(row.query_by_best_peer)]);
            }
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn notes(&self) -> Vec<String> {
        let Setting { model, texts, count, tokens, query_tokens, tokens_max, rounds, .. } = &self.setting;
        let mean = *tokens as f64 / *count as f64;
        let mut notes = vec![
            format!(
                "{count} texts of {texts}, {tokens} tokens ({mean:.0} on average, cut at {tokens_max}); tokenizing is not timed"
            ),
            format!(
                "medians of {rounds} rounds in turns; the query has {query_tokens} tokens and is alone, p50 and p99 in ms; model {model}"
            ),
            "of peak: the operations of the linear layers by the time of everything; cosine: to our float32"
                .to_owned(),
        ];
        notes.extend(self.peaks.lines());
        let Machine { cpu, cores, load_average } = &self.machine;
        notes.push(format!("{cores} cores of {cpu}; load average when it began: {load_average}"));
        notes.extend(self.rows.iter().filter_map(Row::memory_line));
        notes.extend(self.left_out.iter().map(|(name, reason)| format!("left out: {name}: {reason}")));
        notes
    }
}

fn row(entry: &Entry, order: Order, seconds: &[f64], setting: &Setting, peaks: &Peaks) -> Option<Row> {
    let rates: Vec<f64> = seconds.iter().map(|seconds| setting.count as f64 / seconds).collect();
    let texts_per_second = Spread::of(&rates)?;
    let share_of_all = texts_per_second.median / setting.count as f64;
    let peak =
        entry.label.computes_with.and_then(|name| peaks.operations_per_second(name, entry.label.threads));
    let query_ms = |share| quantile(&entry.queries, share).map(|seconds| 1e3 * seconds);
    Some(Row {
        label: entry.label.clone(),
        order,
        texts_per_second,
        tokens_per_second: share_of_all * setting.tokens as f64,
        peak_share: peak.map(|peak| share_of_all * setting.linear_operations / peak),
        query_ms_p50: query_ms(0.5),
        query_ms_p99: query_ms(0.99),
        agreement: entry.agreement,
        memory: entry.memory,
        by_best_peer: None,
        query_by_best_peer: None,
    })
}

fn compare_with_peers(rows: &mut [Row]) {
    let peers = || rows.iter().filter(|row| row.label.side == Side::Peer);
    let fastest = peers().map(|row| row.texts_per_second.median).max_by(f64::total_cmp);
    let quickest = peers().filter_map(|row| row.query_ms_p50).min_by(f64::total_cmp);
    for row in rows {
        row.by_best_peer = fastest.map(|fastest| row.texts_per_second.median / fastest);
        row.query_by_best_peer = quickest.and_then(|quickest| Some(row.query_ms_p50? / quickest));
    }
}

impl Row {
    fn memory_line(&self) -> Option<String> {
        // A contestant has a row for each order; its memory is one.
        let memory = self.memory.filter(|_| self.order == Order::Arrival)?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (resident, weights) = (mib(memory.resident_bytes), mib(memory.weights_bytes));
        let Label { name, threads, .. } = &self.label;
        Some(format!(
            "memory of {name}, {threads} thread(s), after one batch: {resident:.0} MiB, weights {weights:.0} MiB, {:.2} times",
            resident / weights
        ))
    }

    fn cells(&self) -> Vec<String> {
        let Spread { median, min, max } = self.texts_per_second;
        let cosine = |value: fn(&Agreement) -> f64| {
            shown(self.agreement.as_ref().map(value), |value| format!("{value:.5}"))
        };
        let ms = |value| shown(value, |value| format!("{value:.2}"));
        let Label { name, computes_with, threads, setting, .. } = &self.label;
        vec![
            computes_with.map_or(name.clone(), |with| format!("{name} ({with})")),
            threads.to_string(),
            self.order.name().to_owned(),
            setting.clone(),
            format!("{median:.0}"),
            format!("{min:.0}–{max:.0}"),
            format!("{:.0}", self.tokens_per_second),
            shown(self.peak_share, |share| format!("{:.0} %", 100.0 * share)),
            ms(self.query_ms_p50),
            ms(self.query_ms_p99),
            cosine(|agreement| agreement.cosine_mean),
            cosine(|agreement| agreement.cosine_min),
        ]
    }
}

fn shown(value: Option<f64>, form: impl Fn(f64) -> String) -> String {
    value.map_or("–".to_owned(), form)
}

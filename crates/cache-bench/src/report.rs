//! The report: two tables for people, JSON for programs, the same figures in both.

pub(crate) mod targets;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{
    bounded::{Bounded, amplification},
    engine::Engine,
    footprint::{PerEntry, Restarts},
    keys::VECTOR_BYTES,
    machine::Machine,
    turns::{Cell, Measured},
};
use targets::Target;

/// How it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    /// Vectors before the first turn.
    pub(crate) entries: u64,
    /// Clients at once.
    pub(crate) clients: u16,
    /// Turns of each.
    pub(crate) rounds: usize,
    /// Length of a turn.
    pub(crate) seconds: f64,
    /// Of all draws.
    pub(crate) seed: u64,
    /// The disk under the engines.
    pub(crate) directory: String,
}

/// What an engine takes beside time.
#[derive(Debug, Serialize)]
pub(crate) struct Footprint {
    /// Which engine.
    pub(crate) engine: Engine,
    /// For each vector.
    #[serde(flatten)]
    pub(crate) per_entry: PerEntry,
    /// Bytes of its index for each vector, by its own count; none of a peer, and of a shard that does not count them.
    pub(crate) index_bytes: Option<f64>,
    /// Bytes given to the disk by bytes put, at 90 % hits and without eviction.
    pub(crate) write_amplification: Option<f64>,
    /// After it ended.
    pub(crate) restarts: Option<Restarts>,
    /// At equal bytes.
    pub(crate) bounded: Option<Bounded>,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    setting: Setting,
    machine: Machine,
    speeds: Vec<Speed>,
    footprints: Vec<Footprint>,
    targets: Vec<Target>,
    /// Vectors that were not those of their keys, of all engines.
    pub(crate) wrong_vectors: u64,
}

/// One engine under one kind of load.
#[derive(Debug, Serialize)]
struct Speed {
    engine: Engine,
    #[serde(flatten)]
    cell: Cell,
    /// The median of the turns.
    keys_per_second: f64,
    keys_per_second_min: f64,
    keys_per_second_max: f64,
    get_us_p50: f64,
    get_us_p99: f64,
    put_us_p50: Option<f64>,
    hit_ratio: f64,
    /// Its keys a second by those of redis.
    keys_by_redis: Option<f64>,
    /// Its p50 by that of redis.
    p50_by_redis: Option<f64>,
}

impl Report {
    /// Computes the figures.
    pub(crate) fn new(setting: Setting, measured: &[Measured], mut footprints: Vec<Footprint>) -> Self {
        let mut speeds: Vec<Speed> = measured.iter().map(Speed::new).collect();
        compare_with_redis(&mut speeds);
        for footprint in &mut footprints {
            footprint.write_amplification = written_at_90(footprint.engine, measured);
        }
        let wrong_in_turns: u64 = measured.iter().map(|measured| measured.record.wrong).sum();
        let bounded = footprints.iter().filter_map(|footprint| footprint.bounded);
        let wrong_bounded: u64 = bounded.map(|bounded| bounded.wrong).sum();
        let targets = targets::compare(&speeds, &footprints);
        let wrong_vectors = wrong_in_turns + wrong_bounded;
        Self { setting, machine: Machine::here(), speeds, footprints, targets, wrong_vectors }
    }

    /// As JSON on one line, or as tables with notes.
    ///
    /// # Errors
    /// Never with the figures here; serde_json checks them.
    pub(crate) fn write(&self, json: bool) -> Result<String> {
        if json {
            return Ok(serde_json::to_string(self)?);
        }
        let mut parts = vec![self.speed_table().to_string(), self.footprint_table().to_string()];
        parts.extend(self.targets.iter().map(Target::line));
        parts.extend(self.notes());
        Ok(parts.join("\n"))
    }

    fn speed_table(&self) -> Table {
        let header = [
            "engine",
            "hits",
            "keys",
            "keys/s",
            "min–max",
            "p50 µs",
            "p99 µs",
            "put p50 µs",
            "keys/s by redis",
            "p50 by redis",
        ];
        let rows = self.speeds.iter().map(Speed::cells);
        table(&header, rows, 1)
    }

    fn footprint_table(&self) -> Table {
        let header = [
            "engine",
            "memory B",
            "index B",
            "disk B",
            "write amp.",
            "ready s",
            "after kill -9",
            "hit ratio",
            "its write amp.",
            "its MiB",
        ];
        table(&header, self.footprints.iter().map(Footprint::cells), 1)
    }

    fn notes(&self) -> Vec<String> {
        let Setting { entries, clients, rounds, seconds, seed, directory } = &self.setting;
        let mut notes = vec![
            format!(
                "{clients} clients in a closed loop, a connection each; medians of {rounds} round(s) of {seconds} s in turns, \
                 less where half as many new vectors were put as there are; seed {seed}"
            ),
            format!(
                "{entries} vectors of {VECTOR_BYTES} bytes (768 float16) at first; hits are a share of keys asked for, what \
                 is missing is put; p50 and p99 are those of a request to read"
            ),
            "memory, disk: for each vector, all in; write amp.: write_bytes of /proc/PID/io by bytes of vectors put, at \
             90 % hits"
                .to_owned(),
        ];
        notes.extend(self.footprints.iter().find_map(Footprint::restart_note));
        notes.extend(self.footprints.iter().find_map(Footprint::bounded_note));
        let Machine { cpu, cores } = &self.machine;
        notes.push(format!("clients and engines share {cores} cores of {cpu}; files in {directory}"));
        if self.wrong_vectors > 0 {
            notes.push(format!("WRONG: {} vectors were not those of their keys", self.wrong_vectors));
        }
        notes
    }
}

/// Of all turns at 90 % hits.
fn written_at_90(engine: Engine, measured: &[Measured]) -> Option<f64> {
    let turns =
        || measured.iter().filter(|measured| measured.engine == engine && measured.cell.hits_percent == 90);
    let written_bytes: Option<u64> = turns().map(|measured| measured.written_bytes).sum();
    let put_keys: u64 = turns().map(|measured| measured.record.put_keys).sum();
    amplification(engine, written_bytes, put_keys * VECTOR_BYTES as u64)
}

fn compare_with_redis(speeds: &mut [Speed]) {
    let redis: Vec<(Cell, f64, f64)> = speeds
        .iter()
        .filter(|speed| speed.engine == Engine::Redis)
        .map(|speed| (speed.cell, speed.keys_per_second, speed.get_us_p50))
        .collect();
    for speed in speeds {
        let same_load = redis.iter().find(|(cell, ..)| *cell == speed.cell);
        speed.keys_by_redis = same_load.map(|(_, rate, _)| speed.keys_per_second / rate);
        speed.p50_by_redis = same_load.map(|(.., p50)| speed.get_us_p50 / p50);
    }
}

impl Speed {
    fn new(measured: &Measured) -> Self {
        let record = &measured.record;
        let fold = |from, take: fn(f64, f64) -> f64| measured.rates.iter().copied().fold(from, take);
        Self {
            engine: measured.engine,
            cell: measured.cell,
            keys_per_second: median(&measured.rates),
            keys_per_second_min: fold(f64::INFINITY, f64::min),
            keys_per_second_max: fold(0.0, f64::max),
            get_us_p50: record.get_us(0.5),
            get_us_p99: record.get_us(0.99),
            put_us_p50: record.put_us(0.5),
            hit_ratio: record.hit_ratio(),
            keys_by_redis: None,
            p50_by_redis: None,
        }
    }

    fn cells(&self) -> Vec<String> {
        let ratio = |value: Option<f64>| shown(value, |value| format!("{value:.2}"));
        vec![
            self.engine.name().to_owned(),
            format!("{} %", self.cell.hits_percent),
            self.cell.batch.to_string(),
            format!("{:.0}", self.keys_per_second),
            format!("{:.0}–{:.0}", self.keys_per_second_min, self.keys_per_second_max),
            format!("{:.0}", self.get_us_p50),
            format!("{:.0}", self.get_us_p99),
            shown(self.put_us_p50, |value| format!("{value:.0}")),
            ratio(self.keys_by_redis),
            ratio(self.p50_by_redis),
        ]
    }
}

impl Footprint {
    fn cells(&self) -> Vec<String> {
        let whole = |value: Option<f64>| shown(value, |value| format!("{value:.0}"));
        let ratio = |value: Option<f64>| shown(value, |value| format!("{value:.2}"));
        let seconds = |of: fn(&Restarts) -> f64| {
            shown(self.restarts.as_ref(), |restarts| {
                format!("{:.2}{}", of(restarts), if restarts.kept { "" } else { ", empty" })
            })
        };
        vec![
            self.engine.name().to_owned(),
            whole(Some(self.per_entry.memory_bytes)),
            whole(self.index_bytes),
            whole(self.per_entry.disk_bytes),
            ratio(self.write_amplification),
            seconds(|restarts| restarts.asked_seconds),
            seconds(|restarts| restarts.killed_seconds),
            shown(self.bounded, |bounded| format!("{:.1} %", 100.0 * bounded.hit_ratio)),
            ratio(self.bounded.and_then(|bounded| bounded.write_amplification)),
            shown(self.bounded.as_ref(), Bounded::held),
        ]
    }

    fn restart_note(&self) -> Option<String> {
        let entries = self.restarts?.entries;
        Some(format!(
            "ready: from the start of the process over {entries} vectors to its first right answer; an engine that has \
             lost them is ready when it answers"
        ))
    }

    fn bounded_note(&self) -> Option<String> {
        let Bounded { bytes_max, working_set, .. } = self.bounded?;
        Some(format!(
            "hit ratio: each may hold {} MiB (ours on the disk, the others in memory) and is asked for {working_set} \
             vectors, four times as much, by Zipf 0.9; what is missing is put; its MiB: resident memory + files at the end",
            bytes_max >> 20
        ))
    }
}

impl Bounded {
    /// What it really took, however it counts against its bound.
    fn held(&self) -> String {
        let files = self.disk_bytes.map(|bytes| format!(" + {}", bytes >> 20));
        format!("{}{}", self.memory_bytes >> 20, files.unwrap_or_default())
    }
}

/// A table whose columns from `right_from` on stand at the right.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, right_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(right_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The value in a form, or a dash.
pub(crate) fn shown<T>(value: Option<T>, form: impl Fn(T) -> String) -> String {
    value.map_or("–".to_owned(), form)
}

/// The middle one, or the mean of the two in the middle; not a number of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests;

//! The report: a table for people, JSON for programs, the same numbers in both.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{drive::Phase, machine::Machine, memory::Watched, workload::Choice};

/// How the report is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// One object, on one line.
    Json,
}

/// What the load was.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The server.
    pub(crate) url: String,
    /// Clients at once.
    pub(crate) clients: u16,
    /// Texts of one request.
    pub(crate) texts_per_request: usize,
    /// Which texts were sent.
    pub(crate) workload: Choice,
    /// Texts to choose from.
    pub(crate) distinct: usize,
    /// Texts that came again with a number appended.
    pub(crate) reused: usize,
    /// Of all draws.
    pub(crate) seed: u64,
    /// The server was asked to leave its caches aside.
    pub(crate) no_cache: bool,
    /// Load before the measurement.
    pub(crate) warm_up: Duration,
    /// Requests that failed in it.
    pub(crate) warm_up_errors: u64,
    /// When a request counted as failed.
    pub(crate) timeout: Duration,
}

/// All numbers of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    loop_kind: &'static str,
    clients: u16,
    texts_per_request: usize,
    workload: &'static str,
    distinct_texts: usize,
    reused_texts: usize,
    seed: u64,
    no_cache: bool,
    warm_up_seconds: f64,
    warm_up_errors: u64,
    timeout_seconds: f64,
    seconds: f64,
    pub(crate) requests: u64,
    texts: u64,
    requests_per_second: f64,
    texts_per_second: f64,
    pub(crate) latency_ms: LatencyMs,
    hit_rate: f64,
    errors: BTreeMap<String, u64>,
    memory: Vec<Watched>,
    machine: Machine,
}

#[derive(Debug, Serialize)]
pub(crate) struct LatencyMs {
    pub(crate) p50: f64,
    p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    max: f64,
}

impl Report {
    /// Computes the rates of `phase`.
    pub(crate) fn new(setting: &Setting, phase: &Phase, memory: Vec<Watched>, machine: Machine) -> Self {
        let Phase { record, elapsed } = phase;
        let seconds = elapsed.as_secs_f64();
        Self {
            url: setting.url.clone(),
            loop_kind: "closed",
            clients: setting.clients,
            texts_per_request: setting.texts_per_request,
            workload: match setting.workload {
                Choice::Unique => "unique",
                Choice::Repeat { .. } => "repeat",
            },
            distinct_texts: setting.distinct,
            reused_texts: setting.reused,
            seed: setting.seed,
            no_cache: setting.no_cache,
            warm_up_seconds: setting.warm_up.as_secs_f64(),
            warm_up_errors: setting.warm_up_errors,
            timeout_seconds: setting.timeout.as_secs_f64(),
            seconds,
            requests: record.requests,
            texts: record.texts,
            requests_per_second: record.requests as f64 / seconds,
            texts_per_second: record.texts as f64 / seconds,
            latency_ms: LatencyMs {
                p50: record.latency_ms(0.50),
                p90: record.latency_ms(0.90),
                p95: record.latency_ms(0.95),
                p99: record.latency_ms(0.99),
                max: record.latency_ms(1.0),
            },
            hit_rate: record.hits as f64 / record.texts.max(1) as f64,
            errors: record.errors.clone(),
            memory,
            machine,
        }
    }

    /// The report in the form asked for.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub(crate) fn write(&self, form: Form) -> anyhow::Result<String> {
        match form {
            Form::Json => Ok(serde_json::to_string(self)?),
            Form::Table => Ok(self.to_text()?),
        }
    }

    fn to_text(&self) -> Result<String, std::fmt::Error> {
        Ok(format!("{}\n{}", self.numbers(), self.details()?))
    }

    /// All but the numbers: errors, memory, how it was measured.
    ///
    /// # Errors
    /// Never; writing to a text cannot fail.
    pub(crate) fn details(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        if !self.errors.is_empty() {
            writeln!(text, "{}", self.error_table())?;
        }
        if !self.memory.is_empty() {
            writeln!(text, "{}", self.memory_table())?;
        }
        write!(text, "{}", self.notes().join("\n"))?;
        Ok(text)
    }

    fn numbers(&self) -> Table {
        let LatencyMs { p50, p90, p95, p99, max } = self.latency_ms;
        let milliseconds = [p50, p90, p95, p99, max].map(|latency| format!("{latency:.2}"));
        let mut row = vec![
            self.requests.to_string(),
            self.errors.values().sum::<u64>().to_string(),
            format!("{:.1}", self.texts_per_second),
            format!("{:.1}", self.requests_per_second),
        ];
        row.extend(milliseconds);
        row.push(format!("{:.1} %", 100.0 * self.hit_rate));
        table(&[
            vec![
                "requests",
                "errors",
                "texts/s",
                "requests/s",
                "p50 ms",
                "p90 ms",
                "p95 ms",
                "p99 ms",
                "max ms",
                "hits",
            ]
            .into_iter()
            .map(str::to_owned)
            .collect(),
            row,
        ])
    }

    fn error_table(&self) -> Table {
        let header = vec!["error".to_owned(), "requests".to_owned()];
        let rows = self.errors.iter().map(|(kind, count)| vec![kind.clone(), count.to_string()]);
        table(&[header].into_iter().chain(rows).collect::<Vec<_>>())
    }

    fn memory_table(&self) -> Table {
        let header = ["process", "before MiB", "after MiB", "peak MiB"].map(str::to_owned).to_vec();
        let rows = self.memory.iter().map(|watched| {
            let after = watched.after_kib.map_or("gone".to_owned(), mib);
            vec![
                format!("{} {}", watched.name, watched.pid),
                mib(watched.before_kib),
                after,
                mib(watched.peak_kib),
            ]
        });
        table(&[header].into_iter().chain(rows).collect::<Vec<_>>())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!(
                "closed loop: {} clients, each on its own keep-alive connection, texts a request {}, for {:.1} s \
                 after {:.1} s of warm-up, at {}",
                self.clients, self.texts_per_request, self.seconds, self.warm_up_seconds, self.url
            ),
            self.workload_note(),
            format!(
                "client and server share {} cores of {}; memory, where shown, is resident and sampled each second",
                self.machine.cores, self.machine.cpu
            ),
        ];
        if self.no_cache {
            notes.push("the server was asked to leave its caches aside (cache-control: no-cache)".to_owned());
        }
        if self.workload == "unique" && self.hit_rate > 0.0 {
            notes.push(
                "some texts were cached by an earlier run: POST /cache/clear or `--no-cache` measures cold"
                    .to_owned(),
            );
        }
        if self.warm_up_errors > 0 {
            notes.push(format!("{} requests of the warm-up failed, not counted above", self.warm_up_errors));
        }
        notes
    }

    fn workload_note(&self) -> String {
        if self.workload == "repeat" {
            let Self { distinct_texts, seed, .. } = self;
            return format!("workload repeat: drawn uniformly from {distinct_texts} texts, seed {seed}");
        }
        format!(
            "workload unique: no text twice; {} texts in the file, {} sent again with a number appended",
            self.distinct_texts, self.reused_texts
        )
    }
}

/// A table of a header and rows; all but the first column are numbers.
pub(crate) fn table(rows: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if let Some((header, rows)) = rows.split_first() {
        table.set_header(header).add_rows(rows);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use crate::{client::Outcome, record::Record};

    use super::*;

    fn report() -> Report {
        let setting = Setting {
            url: "http://127.0.0.1:1/".to_owned(),
            clients: 2,
            texts_per_request: 3,
            workload: Choice::Unique,
            distinct: 10,
            reused: 4,
            seed: 1,
            no_cache: false,
            warm_up: Duration::ZERO,
            warm_up_errors: 0,
            timeout: Duration::from_secs(30),
        };
        let mut record = Record::new().unwrap();
        for _ in 0..4 {
            record.add(Outcome::Answered { hits: 1 }, 3, Duration::from_millis(5)).unwrap();
        }
        record.add(Outcome::Failed("503 unavailable".to_owned()), 3, Duration::ZERO).unwrap();
        let phase = Phase { record, elapsed: Duration::from_secs(2) };
        let gone =
            Watched { pid: 7, name: "ml-base".to_owned(), before_kib: 2048, after_kib: None, peak_kib: 4096 };
        Report::new(&setting, &phase, vec![gone], Machine { cpu: "A CPU".to_owned(), cores: 2 })
    }

    #[test]
    fn table_tells_rates_errors_memory_and_how_it_was_measured() {
        let text = report().write(Form::Table).unwrap();
        for expected in
            ["6.0", "2.0", "33.3 %", "503 unavailable", "ml-base 7", "gone", "closed loop", "A CPU", "4 sent"]
        {
            assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
        }
    }

    #[test]
    fn json_tells_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report().write(Form::Json).unwrap()).unwrap();
        assert_eq!(json["texts_per_second"], 6.0);
        assert_eq!(json["errors"]["503 unavailable"], 1);
        assert_eq!(json["memory"][0]["after_kib"], serde_json::Value::Null);
        assert_eq!(json["reused_texts"], 4);
        assert!((json["latency_ms"]["p99"].as_f64().unwrap() - 5.0).abs() < 0.1);
    }
}

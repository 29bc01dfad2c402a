//! The report for people: one table each for services, balancer slots, models, caches, objectives.

use std::time::Duration;

use serde_json::Value;

use super::balancer::Slot;
use super::cache;
use super::model::ServedModel;
use super::objective::{Comparison, Name, Objective, Unit, Verdict};
use super::report::{Report, ServiceReport};
use super::shown::{self, UNKNOWN, or_dash};
use crate::console;

/// Digits of an identity that tell models apart at a glance.
const IDENTITY_DIGITS: usize = 12;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    if !report.running {
        return "nothing runs; start it with `cargo xtask up`".to_owned();
    }
    let slots: Vec<&Slot> = report.balancer.iter().flat_map(|balancer| &balancer.slots).collect();
    let objectives: Vec<&Objective> = report.objectives.iter().flatten().collect();
    let notes: Vec<String> = report.notes.iter().map(|note| format!("note: {note}")).collect();
    let parts = [
        table(&SERVICE_HEAD, report.services.iter().map(service)),
        table(&SLOT_HEAD, slots.into_iter().map(slot)),
        table(&MODEL_HEAD, report.models.iter().map(model)),
        table(&CACHE_HEAD, caches(report)),
        table(&OBJECTIVE_HEAD, objectives.into_iter().map(objective)),
        notes.join("\n"),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// A table with its head; empty where it has no row.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = head.iter().copied().map(str::to_owned).collect();
    console::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

const SERVICE_HEAD: [&str; 13] = [
    "SERVICE",
    "STATE",
    "VERSION",
    "PID",
    "PORT",
    "UP",
    "RESTARTS",
    "MEMORY",
    "CPU",
    "IN FLIGHT",
    "REQUESTS/S",
    "TEXTS/S",
    "QUEUE",
];

fn service(service: &ServiceReport) -> Vec<String> {
    let load = &service.load;
    let in_flight = or_dash(load.in_flight, |count| match load.permits_max {
        Some(max) => format!("{count}/{max}"),
        None => count.to_string(),
    });
    vec![
        service.name.clone(),
        service.state.clone(),
        or_dash(service.version.clone(), |version| version),
        or_dash(service.pid, |pid| pid.to_string()),
        service.port.to_string(),
        shown::duration(Duration::from_secs(service.uptime_s)),
        service.restarts.to_string(),
        or_dash(service.usage, |usage| shown::bytes(usage.memory_bytes)),
        or_dash(service.usage, |usage| format!("{:.0} %", usage.cpu_percent)),
        in_flight,
        or_dash(load.requests_per_s, shown::rate),
        or_dash(load.texts_per_s, shown::rate),
        number(load.queue_texts),
    ]
}

const SLOT_HEAD: [&str; 13] = [
    "SLOT",
    "STATUS",
    "SINCE",
    "NOW",
    "MAX",
    "QUEUE",
    "TOTAL",
    "FAILED CONNECTS",
    "BROKEN ANSWERS",
    "5XX",
    "RETRIES",
    "REDISPATCHES",
    "AVERAGE",
];

fn slot(slot: &Slot) -> Vec<String> {
    vec![
        format!("{}/{}", slot.backend, slot.name),
        slot.status.clone(),
        or_dash(slot.last_change_s, |seconds| shown::duration(Duration::from_secs(seconds))),
        number(slot.sessions),
        number(slot.sessions_max),
        number(slot.queue),
        number(slot.total),
        number(slot.errors_connect),
        number(slot.errors_response),
        number(slot.answers_5xx),
        number(slot.retries),
        number(slot.redispatches),
        or_dash(slot.response_time_ms, |time| format!("{time} ms")),
    ]
}

const MODEL_HEAD: [&str; 8] =
    ["MODEL", "ALIAS", "IDENTITY", "WIDTH", "PRECISION", "DEVICE", "LOADED", "SERVED BY"];

fn model(model: &ServedModel) -> Vec<String> {
    let text = |text: &Option<String>| or_dash(text.clone(), |text| text);
    let identity = |identity: &String| identity.chars().take(IDENTITY_DIGITS).collect::<String>();
    vec![
        text(&model.id),
        text(&model.alias),
        text(&model.identity.as_ref().map(identity)),
        number(model.width),
        text(&model.precision),
        text(&model.device),
        or_dash(model.is_loaded, |is_loaded| if is_loaded { "yes" } else { "no" }.to_owned()),
        model.service.clone(),
    ]
}

const CACHE_HEAD: [&str; 7] = ["CACHE", "ENTRIES", "BYTES", "HITS", "MISSES", "HIT RATE", "DETAIL"];

/// Only the levels that said something.
fn caches(report: &Report) -> Vec<Vec<String>> {
    let cache = &report.cache;
    let levels = [
        ("L1", &cache.l1, String::new()),
        ("L2", &cache.l2, l2_detail(&cache.l2)),
        ("L1 and L2", &cache.total, String::new()),
        ("shard", &cache.shard, shard_detail(&cache.shard)),
    ];
    let told = levels.into_iter().filter(|(_, level, _)| level.is_object());
    told.map(|(name, level, detail)| cache_row(name, level, detail)).collect()
}

fn cache_row(name: &str, level: &Value, detail: String) -> Vec<String> {
    vec![
        name.to_owned(),
        number(level["size"].as_u64().or(level["entries"].as_u64())),
        or_dash(level["bytes"].as_u64(), shown::bytes),
        number(level["hits"].as_u64()),
        number(level["misses"].as_u64()),
        or_dash(cache::hit_rate(level), |share| shown::percent(share, 1)),
        detail,
    ]
}

fn l2_detail(l2: &Value) -> String {
    let backend = l2["backend"].as_str().unwrap_or("L2");
    match l2["enabled"].as_bool() {
        Some(true) => backend.to_owned(),
        Some(false) => format!("{backend}, off"),
        None => String::new(),
    }
}

fn shard_detail(shard: &Value) -> String {
    let segments = shard["segments"].as_u64().map(|segments| format!("segments: {segments}"));
    let reason = |reason: &Value| reason.as_str().map_or_else(|| reason.to_string(), str::to_owned);
    let degraded = Some(&shard["degraded"]).filter(|degraded| !degraded.is_null());
    let degraded = degraded.map(|degraded| format!("degraded: {}", reason(degraded)));
    [segments, degraded].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const OBJECTIVE_HEAD: [&str; 5] = ["OBJECTIVE", "TARGET", "MEASURED", "VERDICT", "SOURCE"];

fn objective(objective: &Objective) -> Vec<String> {
    let (name, decimals) = match objective.name {
        Name::LatencyP95 => ("latency p95", 1),
        Name::Availability => ("availability", 3),
        Name::HitRate => ("cache hit rate", 1),
        Name::Cpu => ("cpu of the machine", 1),
        Name::Memory => ("memory of the machine", 1),
    };
    let comparison = match objective.comparison {
        Comparison::Less => "<",
        Comparison::AtMost => "≤",
        Comparison::More => ">",
    };
    let verdict = match objective.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::NoData => "no data",
    };
    let shown = |value: f64| match objective.unit {
        Unit::Seconds => shown::milliseconds(value),
        Unit::Share => shown::percent(value, decimals),
    };
    vec![
        name.to_owned(),
        format!("{comparison} {}", shown(objective.target)),
        objective.measured.map_or_else(|| UNKNOWN.to_owned(), shown),
        verdict.to_owned(),
        objective.source.to_owned(),
    ]
}

fn number(count: Option<u64>) -> String {
    or_dash(count, |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::status::balancer::Balancer;
    use crate::status::cache::Caches;
    use crate::status::service::Load;
    use crate::status::usage::Usage;

    fn full_report() -> Report {
        let service = ServiceReport {
            name: "ml-base-1".to_owned(),
            state: "ready".to_owned(),
            version: Some("0.0.0".to_owned()),
            pid: Some(4711),
            port: 8901,
            uptime_s: 3661,
            restarts: 2,
            usage: Some(Usage { memory_bytes: 150 << 20, cpu_percent: 98.6 }),
            load: Load {
                in_flight: Some(3),
                permits_max: Some(512),
                requests_per_s: Some(12.34),
                texts_per_s: Some(1234.5),
                queue_texts: Some(7),
            },
        };
        let slot = Slot {
            backend: "ml_base".to_owned(),
            name: "ml1".to_owned(),
            status: "UP".to_owned(),
            sessions: Some(4),
            total: Some(80),
            response_time_ms: Some(12),
            ..Slot::default()
        };
        let model = ServedModel {
            service: "ml-base-1".to_owned(),
            id: Some("org/model".to_owned()),
            alias: None,
            identity: Some("0123456789abcdef".to_owned()),
            width: Some(384),
            precision: Some("float32".to_owned()),
            device: Some("cpu".to_owned()),
            is_loaded: Some(true),
        };
        let cache = Caches {
            l1: json!({"size": 10, "hits": 3, "misses": 1}),
            l2: json!({"hits": 0, "misses": 0, "enabled": false, "backend": "sutra-storage"}),
            total: Value::Null,
            shard: json!({"entries": 5, "bytes": 2048, "segments": 1, "degraded": "disk full"}),
        };
        Report {
            running: true,
            services: vec![service],
            balancer: Some(Balancer { slots: vec![slot], ..Balancer::default() }),
            models: vec![model],
            cache,
            notes: vec!["something".to_owned()],
            ..Report::default()
        }
    }

    /// The cells of the line that begins with `start`.
    fn cells<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
        let line = text
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in\n{text}"));
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn each_part_is_a_table_of_its_own() {
        let text = render(&full_report());
        let service = [
            "ml-base-1",
            "ready",
            "0.0.0",
            "4711",
            "8901",
            "1:01:01",
            "2",
            "150.0 MiB",
            "99 %",
            "3/512",
            "12.3",
            "1234",
            "7",
        ];
        assert_eq!(cells(&text, "ml-base-1"), service);
        let slot = ["ml_base/ml1", "UP", "-", "4", "-", "-", "80", "-", "-", "-", "-", "-", "12 ms"];
        assert_eq!(cells(&text, "ml_base/ml1"), slot);
        let model = ["org/model", "-", "0123456789ab", "384", "float32", "cpu", "yes", "ml-base-1"];
        assert_eq!(cells(&text, "org/model"), model);
        assert_eq!(cells(&text, "L1 "), ["L1", "10", "-", "3", "1", "75.0 %"]);
        assert_eq!(cells(&text, "L2 "), ["L2", "-", "-", "0", "0", "-", "sutra-storage, off"]);
        let shard = ["shard", "5", "2.0 KiB", "-", "-", "-", "segments: 1, degraded: disk full"];
        assert_eq!(cells(&text, "shard"), shard);
        assert!(text.ends_with("\n\nnote: something"), "{text}");
        assert!(!text.contains("OBJECTIVE"), "{text}");
        for head in ["SERVICE ", "SLOT ", "MODEL ", "CACHE "] {
            assert_eq!(
                text.matches(&format!("\n{head}")).count() + usize::from(text.starts_with(head)),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn objectives_show_target_and_verdict() {
        let objective = Objective {
            name: Name::Availability,
            comparison: Comparison::More,
            target: 0.999,
            measured: Some(0.99985),
            unit: Unit::Share,
            verdict: Verdict::Met,
            source: "plan",
        };
        let latency = Objective {
            name: Name::LatencyP95,
            comparison: Comparison::Less,
            target: 0.2,
            measured: None,
            unit: Unit::Seconds,
            verdict: Verdict::NoData,
            source: "plan",
        };
        let text = render(&Report { objectives: Some(vec![objective, latency]), ..full_report() });
        assert_eq!(cells(&text, "availability"), ["availability", "> 99.900 %", "99.985 %", "met", "plan"]);
        assert_eq!(cells(&text, "latency"), ["latency p95", "< 200.0 ms", "-", "no data", "plan"]);
    }

    #[test]
    fn grid_of_which_nothing_is_known_has_only_its_services() {
        assert!(render(&Report::default()).starts_with("nothing runs"));
        assert_eq!(render(&Report { running: true, ..Report::default() }), "");
    }
}

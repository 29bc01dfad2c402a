//! One look at one service: its health, what it serves, what it counts.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::ANSWER_TIMEOUT;
use super::balancer::{self, Balancer};
use super::openmetrics::{Labels, Metrics};
use crate::http::{self, Answer};
use crate::state::{EMBEDDING_SINGLE, ServiceState};
use crate::up::health_word;

/// The state of a service that serves.
pub(super) const READY: &str = "ready";

/// Paths that are no work: what operators and balancers ask, and what leads nowhere.
const PATHS_OF_PROBES: [&str; 7] =
    ["/health", "/livez", "/metrics", "/info", "/cache/stats", "/cache/clear", "unmatched"];

/// What a service is, by its name in the state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    CacheShard,
    MlBase,
    /// HAProxy: what answers on its port is one of the replicas behind it.
    Balancer,
    EmbeddingSingle,
    /// Something this version does not know: only its health is asked.
    Other,
}

impl Kind {
    /// The kind of the service called `name`.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "cache-shard" => Self::CacheShard,
            "haproxy" => Self::Balancer,
            EMBEDDING_SINGLE => Self::EmbeddingSingle,
            _ if name == "ml-base" || name.starts_with("ml-base-") => Self::MlBase,
            _ => Self::Other,
        }
    }

    /// What the names of its metrics begin with, where it has some of its own.
    fn metrics_prefix(self) -> Option<&'static str> {
        match self {
            Self::CacheShard => Some("cache_shard"),
            Self::MlBase => Some("ml_base"),
            Self::EmbeddingSingle => Some("embedding_single"),
            Self::Balancer | Self::Other => None,
        }
    }

    /// The counter of what it works through: texts, or keys in the shard.
    fn texts_counters(self) -> &'static [&'static str] {
        match self {
            Self::CacheShard => &["hits_total", "misses_total"],
            Self::MlBase => &["texts_total"],
            Self::EmbeddingSingle => &["lookups_total"],
            Self::Balancer | Self::Other => &[],
        }
    }
}

/// How much a service has to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Load {
    /// Requests being answered.
    pub(super) in_flight: Option<u64>,
    /// Requests it admits at once.
    pub(super) permits_max: Option<u64>,
    /// Requests for work a second, between both looks.
    pub(super) requests_per_s: Option<f64>,
    /// Texts (keys, in the shard) a second, between both looks.
    pub(super) texts_per_s: Option<f64>,
    /// Texts that wait for the device.
    pub(super) queue_texts: Option<u64>,
}

/// What a service said.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Its state in a word.
    pub(super) state: String,
    /// Its version.
    pub(super) version: Option<String>,
    /// The answer of `GET /info`; null where there is none.
    pub(super) info: Value,
    /// The answer of `GET /cache/stats`; null where there is none.
    pub(super) cache_stats: Value,
    /// Its metrics, the later of both looks.
    pub(super) metrics: Option<Metrics>,
    /// What it has to do.
    pub(super) load: Load,
    /// What HAProxy says on its other port; none for every other service.
    pub(super) balancer: Option<Balancer>,
    /// What a reader should know beside.
    pub(super) notes: Vec<String>,
}

/// Asks `service`, twice for its counts, `window` apart. `stats_port` is HAProxy's.
pub(super) fn look(
    service: &ServiceState,
    stats_port: Option<u16>,
    key: Option<&str>,
    window: Duration,
) -> Look {
    match service.process {
        Some(process) if process.is_alive() => look_at_running(service, stats_port, key, window),
        Some(_) | None => Look { state: "restarting".to_owned(), ..Look::default() },
    }
}

fn look_at_running(
    service: &ServiceState,
    stats_port: Option<u16>,
    key: Option<&str>,
    window: Duration,
) -> Look {
    let Ok(answer) = http::get(service.port, "/health", ANSWER_TIMEOUT) else {
        return Look { state: "no answer".to_owned(), ..Look::default() };
    };
    let health = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let mut look = Look { state: state_of(&answer, &health), ..Look::default() };
    let kind = Kind::of(&service.name);
    if kind == Kind::Balancer {
        // What else answers on its port is one of the replicas.
        look_at_balancer(service, stats_port, &mut look);
        return look;
    }
    look.version = health["version"].as_str().map(str::to_owned);
    let Some(prefix) = kind.metrics_prefix() else { return look };
    let earlier = Counts::ask(service.port);
    look.info = ask_json(service, "/info", key, &mut look.notes);
    if kind == Kind::EmbeddingSingle {
        look.cache_stats = ask_json(service, "/cache/stats", key, &mut look.notes);
    }
    let later = earlier.as_ref().and_then(|earlier| {
        wait_until(earlier.taken + window);
        Counts::ask(service.port)
    });
    if let (Some(earlier), Some(later)) = (earlier, later) {
        look.load = load(kind, prefix, &earlier, &later);
        look.metrics = Some(later.metrics);
    }
    let limits = &look.info["limits"];
    look.load.permits_max = limits["requests_max"].as_u64().or(limits["calls_max"].as_u64());
    look
}

fn look_at_balancer(service: &ServiceState, stats_port: Option<u16>, look: &mut Look) {
    let Some(port) = stats_port else {
        look.notes.push(format!(
            "the port of {}'s stats socket is not known: its slots are not shown",
            service.name
        ));
        return;
    };
    match balancer::look(port) {
        Ok(balancer) => {
            look.version.clone_from(&balancer.version);
            look.load.in_flight = Some(balancer.in_flight());
            look.load.requests_per_s = Some(balancer.requests_per_s as f64);
            look.balancer = Some(balancer);
        }
        Err(error) => look.notes.push(format!("{}'s stats socket on port {port}: {error:#}", service.name)),
    }
}

/// `ready` only with 200 and nothing degraded.
fn state_of(answer: &Answer, health: &Value) -> String {
    match answer.status {
        200 if health["degraded"].is_null() => READY.to_owned(),
        200 => "degraded".to_owned(),
        status => health_word(&answer.body).unwrap_or_else(|| format!("HTTP {status}")),
    }
}

/// The JSON answer of `GET path`; null, and a note where it helps, where there is none.
fn ask_json(service: &ServiceState, path: &str, key: Option<&str>, notes: &mut Vec<String>) -> Value {
    let answer = http::get_with_key(service.port, path, key, ANSWER_TIMEOUT);
    match answer.map(|answer| (answer.status, serde_json::from_str(&answer.body))) {
        Ok((200, Ok(value))) => value,
        Ok((401, _)) => {
            let advice = "set API_KEY to the key it was started with";
            notes.push(format!("{} refuses GET {path} with 401: {advice}", service.name));
            Value::Null
        }
        Ok(_) | Err(_) => Value::Null,
    }
}

/// The metrics of a service, and when they were read.
struct Counts {
    taken: Instant,
    metrics: Metrics,
}

impl Counts {
    fn ask(port: u16) -> Option<Self> {
        let answer: Result<Answer> = http::get(port, "/metrics", ANSWER_TIMEOUT);
        let answer = answer.ok().filter(|answer| answer.status == 200)?;
        Some(Self { taken: Instant::now(), metrics: Metrics::parse(&answer.body) })
    }
}

fn load(kind: Kind, prefix: &str, earlier: &Counts, later: &Counts) -> Load {
    let seconds = later.taken.duration_since(earlier.taken).as_secs_f64();
    let rate = |before: Option<f64>, after: Option<f64>| {
        // A counter is not written before it first counts, and one that fell belongs to a process started again.
        let gained = (after.unwrap_or(0.0) - before.unwrap_or(0.0)).max(0.0);
        (seconds > 0.0).then_some(gained / seconds)
    };
    let texts = |counts: &Counts| sum_of(&counts.metrics, prefix, kind.texts_counters());
    let requests = |counts: &Counts| work_answered(&counts.metrics, prefix, |_| true);
    Load {
        // One of them is the question itself.
        in_flight: later
            .metrics
            .count(&format!("{prefix}_requests_in_flight"))
            .map(|count| count.saturating_sub(1)),
        permits_max: None,
        requests_per_s: rate(requests(earlier), requests(later)),
        texts_per_s: rate(texts(earlier), texts(later)),
        queue_texts: later.metrics.count(&format!("{prefix}_queue_texts")),
    }
}

fn sum_of(metrics: &Metrics, prefix: &str, names: &[&str]) -> Option<f64> {
    names.iter().filter_map(|name| metrics.sum(&format!("{prefix}_{name}"))).reduce(|a, b| a + b)
}

/// Requests for work that were answered, those whose labels pass; none where nothing at all was answered.
pub(super) fn work_answered(
    metrics: &Metrics,
    prefix: &str,
    passes: impl Fn(&Labels) -> bool,
) -> Option<f64> {
    metrics.sum_where(&format!("{prefix}_requests_total"), |labels| is_work(labels) && passes(labels))
}

/// True for what counts a request that is no probe.
pub(super) fn is_work(labels: &Labels) -> bool {
    let path = labels.get("path");
    !PATHS_OF_PROBES.contains(&path) && !path.starts_with("/grpc.")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a rate needs two looks some time apart, and nothing tells of that time"
)]
pub(super) fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: u16, body: &str) -> String {
        let health = serde_json::from_str(body).unwrap_or(Value::Null);
        state_of(&Answer { status, body: body.to_owned() }, &health)
    }

    #[test]
    fn health_is_ready_only_with_200_and_nothing_degraded() {
        assert_eq!(state(200, "{\"status\":\"ready\"}"), "ready");
        assert_eq!(state(200, "{\"status\":\"ready\",\"degraded\":null}"), "ready");
        assert_eq!(state(200, "{\"status\":\"ready\",\"degraded\":\"disk full\"}"), "degraded");
        assert_eq!(state(503, "{\"status\":\"loading\"}"), "loading");
        assert_eq!(state(503, ""), "HTTP 503");
    }

    #[test]
    fn kind_is_known_by_the_name() {
        assert_eq!(Kind::of("ml-base"), Kind::MlBase);
        assert_eq!(Kind::of("ml-base-8"), Kind::MlBase);
        assert_eq!(Kind::of("ml-baseline"), Kind::Other);
        assert_eq!(Kind::of("haproxy"), Kind::Balancer);
        assert_eq!(Kind::of("cache-shard"), Kind::CacheShard);
        assert_eq!(Kind::of("embedding-single"), Kind::EmbeddingSingle);
    }

    fn counts(taken: Instant, text: &str) -> Counts {
        Counts { taken, metrics: Metrics::parse(text) }
    }

    #[test]
    fn rates_count_work_between_both_looks_and_no_probes() {
        let start = Instant::now();
        let earlier = counts(start, "ml_base_requests_total{path=\"/embed\",status=\"200\"} 10\n");
        let later = counts(
            start + Duration::from_secs(2),
            "ml_base_requests_total{path=\"/embed\",status=\"200\"} 15\n\
             ml_base_requests_total{path=\"/sutra.inference.v1.Inference/{*rest}\",status=\"200\"} 3\n\
             ml_base_requests_total{path=\"/health\",status=\"200\"} 99\n\
             ml_base_requests_total{path=\"/grpc.health.v1.Health/{*rest}\",status=\"200\"} 99\n\
             ml_base_texts_total{status=\"OK\"} 64\n\
             ml_base_requests_in_flight 4\n\
             ml_base_queue_texts 7\n",
        );
        let load = load(Kind::MlBase, "ml_base", &earlier, &later);
        let expected = Load {
            in_flight: Some(3),
            permits_max: None,
            requests_per_s: Some(4.0),
            texts_per_s: Some(32.0),
            queue_texts: Some(7),
        };
        assert_eq!(load, expected);
    }

    #[test]
    fn counter_that_fell_is_no_negative_rate() {
        let start = Instant::now();
        let text = |count: u32| format!("cache_shard_hits_total {count}\ncache_shard_misses_total 0\n");
        let (earlier, later) = (counts(start, &text(50)), counts(start + Duration::from_secs(1), &text(3)));
        let load = load(Kind::CacheShard, "cache_shard", &earlier, &later);
        assert_eq!((load.texts_per_s, load.requests_per_s, load.in_flight), (Some(0.0), Some(0.0), None));
    }

    #[test]
    fn process_that_is_gone_is_restarting() {
        let service: ServiceState = serde_json::from_value(serde_json::json!({
            "name": "ml-base", "process": null, "port": 1, "started_unix_s": 0, "restarts": 2, "log": "x",
        }))
        .unwrap();
        assert_eq!(look(&service, None, None, Duration::ZERO).state, "restarting");
    }
}

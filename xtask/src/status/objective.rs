//! The objectives of the plan, and whether they are met.

use serde::Serialize;

use super::openmetrics::Metrics;
use super::report::Report;
use super::service::{is_work, work_answered};

const PREFIX: &str = "embedding_single";

/// What is promised of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Name {
    LatencyP95,
    Availability,
    HitRate,
    Cpu,
    Memory,
}

/// How what is measured compares with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Comparison {
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = ">")]
    More,
}

/// What numbers of an objective mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    Seconds,
    /// From 0 to 1.
    Share,
}

/// Whether an objective is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Met,
    Missed,
    /// Nothing happened yet, or nobody answered.
    NoData,
}

/// One objective beside what is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Objective {
    /// Which.
    pub(super) name: Name,
    /// How the measured number must compare with the target.
    pub(super) comparison: Comparison,
    /// The target.
    pub(super) target: f64,
    /// What was found; none where there was nothing to measure.
    pub(super) measured: Option<f64>,
    /// Of both numbers.
    pub(super) unit: Unit,
    /// Whether it is met.
    pub(super) verdict: Verdict,
    /// Where the target comes from.
    pub(super) source: &'static str,
}

impl Objective {
    fn new(promise: Promise, measured: Option<f64>) -> Self {
        let Promise { name, comparison, target, unit, source } = promise;
        let met = |measured: f64| match comparison {
            Comparison::Less => measured < target,
            Comparison::AtMost => measured <= target,
            Comparison::More => measured > target,
        };
        let verdict = match measured.map(met) {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::Missed,
            None => Verdict::NoData,
        };
        Self { name, comparison, target, measured, unit, verdict, source }
    }
}

#[derive(Clone, Copy)]
struct Promise {
    name: Name,
    comparison: Comparison,
    target: f64,
    unit: Unit,
    source: &'static str,
}

/// The plan's "Key Performance Indicators", in its words.
const LATENCY: Promise = Promise {
    name: Name::LatencyP95,
    comparison: Comparison::Less,
    target: 0.2,
    unit: Unit::Seconds,
    source: "plan: latency, target <200ms p95",
};
const AVAILABILITY: Promise = Promise {
    name: Name::Availability,
    comparison: Comparison::More,
    target: 0.999,
    unit: Unit::Share,
    source: "plan: availability, target >99.9%",
};
const HIT_RATE: Promise = Promise {
    name: Name::HitRate,
    comparison: Comparison::More,
    target: 0.7,
    unit: Unit::Share,
    source: "plan: cache, target >70%",
};
const CPU: Promise = Promise {
    name: Name::Cpu,
    comparison: Comparison::AtMost,
    target: 0.45,
    unit: Unit::Share,
    source: "plan: resource_utilization, 45% CPU usage",
};
const MEMORY: Promise = Promise {
    name: Name::Memory,
    comparison: Comparison::AtMost,
    target: 0.68,
    unit: Unit::Share,
    source: "plan: resource_utilization, 68% RAM usage",
};

/// Compares what `report` and the metrics of embedding-single say with the plan.
pub(super) fn compare(report: &Report, metrics: Option<&Metrics>) -> Vec<Objective> {
    let memory = |machine: f64| report.memory_bytes().map(|used| used as f64 / machine);
    vec![
        Objective::new(LATENCY, metrics.and_then(latency_p95)),
        Objective::new(AVAILABILITY, metrics.and_then(availability)),
        Objective::new(HIT_RATE, report.cache.hit_rate()),
        Objective::new(CPU, report.cpu_share()),
        Objective::new(MEMORY, report.machine.and_then(|machine| memory(machine.memory_bytes as f64))),
    ]
}

/// Seconds, of requests for work: probes are fast and would flatter.
fn latency_p95(metrics: &Metrics) -> Option<f64> {
    metrics.histogram_where(&format!("{PREFIX}_request_duration_seconds"), is_work)?.quantile(0.95)
}

/// Share of requests for work that were answered with a status below 500.
fn availability(metrics: &Metrics) -> Option<f64> {
    let all = work_answered(metrics, PREFIX, |_| true).filter(|all| *all > 0.0)?;
    let failed = work_answered(metrics, PREFIX, |labels| labels.get("status").starts_with('5'))?;
    Some(1.0 - failed / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 requests of up to 0.2 s, of which two failed, and 900 fast probes.
    const METRICS: &str = "\
embedding_single_requests_total{path=\"/embed\",status=\"200\"} 98
embedding_single_requests_total{path=\"/embed\",status=\"503\"} 1
embedding_single_requests_total{path=\"/embed\",status=\"500\"} 1
embedding_single_requests_total{path=\"/health\",status=\"503\"} 400
embedding_single_requests_total{path=\"/metrics\",status=\"200\"} 500
embedding_single_request_duration_seconds_bucket{le=\"0.1\",path=\"/embed\"} 50
embedding_single_request_duration_seconds_bucket{le=\"0.2\",path=\"/embed\"} 100
embedding_single_request_duration_seconds_bucket{le=\"+Inf\",path=\"/embed\"} 100
embedding_single_request_duration_seconds_bucket{le=\"0.1\",path=\"/health\"} 400
embedding_single_request_duration_seconds_bucket{le=\"0.2\",path=\"/health\"} 400
embedding_single_request_duration_seconds_bucket{le=\"+Inf\",path=\"/health\"} 400
";

    #[test]
    fn p95_is_that_of_work_and_not_of_probes() {
        // Rank 95 of 100 lies 45 of 50 into the bucket from 0.1 to 0.2.
        let p95 = latency_p95(&Metrics::parse(METRICS)).unwrap();
        assert!((p95 - 0.19).abs() < 1e-12, "{p95}");
    }

    #[test]
    fn availability_counts_failed_work_and_no_probes() {
        let availability = availability(&Metrics::parse(METRICS)).unwrap();
        assert!((availability - 0.98).abs() < 1e-12, "{availability}");
    }

    #[test]
    fn before_the_first_request_there_is_no_data() {
        let probes = METRICS.lines().filter(|line| !line.contains("/embed"));
        let probes_only = probes.fold(String::new(), |text, line| text + line + "\n");
        for text in [probes_only.as_str(), ""] {
            let metrics = Metrics::parse(text);
            assert_eq!((latency_p95(&metrics), availability(&metrics)), (None, None));
        }
        let objectives = compare(&Report::default(), None);
        assert_eq!(objectives.len(), 5);
        assert!(objectives.iter().all(|objective| objective.verdict == Verdict::NoData), "{objectives:?}");
    }

    #[test]
    fn target_itself_meets_only_where_the_plan_says_at_most() {
        let verdict = |promise, measured| Objective::new(promise, Some(measured)).verdict;
        assert_eq!(verdict(LATENCY, 0.1999), Verdict::Met);
        assert_eq!(verdict(LATENCY, 0.2), Verdict::Missed);
        assert_eq!(verdict(AVAILABILITY, 0.9991), Verdict::Met);
        assert_eq!(verdict(AVAILABILITY, 0.999), Verdict::Missed);
        assert_eq!(verdict(CPU, 0.45), Verdict::Met);
        assert_eq!(verdict(CPU, 0.46), Verdict::Missed);
    }
}

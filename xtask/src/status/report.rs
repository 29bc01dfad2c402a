//! Everything that is known of the grid at one moment; its fields are those of `--json`.

use serde::Serialize;

use super::balancer::{Balancer, Slot};
use super::cache::Caches;
use super::gather::Seen;
use super::model::{self, ServedModel};
use super::objective::{Objective, Verdict};
use super::service::{Load, READY};
use super::usage::{Machine, Usage};
use crate::state::State;

/// Exit code where there is nothing to report on, as that of `service NAME status`.
const NOTHING_RUNS: u8 = 3;

/// One service of the grid.
#[derive(Debug, Serialize)]
pub(super) struct ServiceReport {
    /// Its name.
    pub(super) name: String,
    /// Its state in a word; `ready` where it serves.
    pub(super) state: String,
    /// Its version.
    pub(super) version: Option<String>,
    /// Its process.
    pub(super) pid: Option<u32>,
    /// The port it listens on.
    pub(super) port: u16,
    /// Seconds since its process was started.
    pub(super) uptime_s: u64,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// What its processes use; none where they are gone.
    pub(super) usage: Option<Usage>,
    /// What it has to do.
    pub(super) load: Load,
}

/// The grid.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Whether `up` runs.
    pub(super) running: bool,
    /// Whether all of it serves.
    pub(super) ready: bool,
    /// The model as the user named it.
    pub(super) model: Option<String>,
    /// Where clients reach it.
    pub(super) url: Option<String>,
    /// What the machine has.
    pub(super) machine: Option<Machine>,
    /// In the order they were started.
    pub(super) services: Vec<ServiceReport>,
    /// HAProxy and its slots; none where there is no HAProxy, or it does not tell.
    pub(super) balancer: Option<Balancer>,
    /// What each service serves.
    pub(super) models: Vec<ServedModel>,
    /// What is cached.
    pub(super) cache: Caches,
    /// The plan's objectives, where they were asked for.
    pub(super) objectives: Option<Vec<Objective>>,
    /// What a reader should know beside.
    pub(super) notes: Vec<String>,
}

impl Report {
    /// The report of a running grid, without objectives.
    pub(super) fn new(state: &State, machine: Option<Machine>, seen: &[Seen<'_>]) -> Self {
        let mut report = Self {
            running: true,
            model: Some(state.model.clone()),
            url: state.url(),
            machine,
            ..Self::default()
        };
        seen.iter().for_each(|seen| report.add(seen));
        let all_ready = report.services.iter().all(|service| service.state == READY);
        let mut slots = report.balancer.iter().flat_map(|balancer| &balancer.slots);
        report.ready = all_ready && !slots.any(Slot::is_down);
        report
    }

    fn add(&mut self, seen: &Seen<'_>) {
        let Seen { service, look, usage } = seen;
        self.models.extend(model::models(&service.name, &look.info));
        self.cache.add(&service.name, look);
        self.notes.extend(look.notes.iter().cloned());
        if look.balancer.is_some() {
            self.balancer.clone_from(&look.balancer);
        }
        self.services.push(ServiceReport {
            name: service.name.clone(),
            state: look.state.clone(),
            version: look.version.clone(),
            pid: service.process.map(|process| process.pid),
            port: service.port,
            uptime_s: service.uptime().as_secs(),
            restarts: service.restarts,
            usage: *usage,
            load: look.load.clone(),
        });
    }

    /// Resident memory of all services; none where nothing is known.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.usages().map(|usage| usage.memory_bytes).reduce(|a, b| a + b)
    }

    /// Share of the machine's processor time that all services use; none where nothing is known.
    pub(super) fn cpu_share(&self) -> Option<f64> {
        let cores = self.machine.filter(|machine| machine.cores > 0)?.cores;
        let percent = self.usages().map(|usage| usage.cpu_percent).reduce(|a, b| a + b)?;
        Some(percent / 100.0 / cores as f64)
    }

    fn usages(&self) -> impl Iterator<Item = Usage> {
        self.services.iter().filter_map(|service| service.usage)
    }

    /// 0 where all is ready and no objective missed, 3 where nothing runs, 1 otherwise.
    pub(super) fn exit_code(&self) -> u8 {
        let missed = |objective: &Objective| objective.verdict == Verdict::Missed;
        match (self.running, self.ready) {
            (false, _) => NOTHING_RUNS,
            (true, true) if !self.objectives.iter().flatten().any(missed) => 0,
            (true, _) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::ServiceState;
    use crate::status::objective;
    use crate::status::service::Look;

    fn service(name: &str) -> ServiceState {
        serde_json::from_value(json!({
            "name": name, "process": null, "port": 1, "started_unix_s": 0, "restarts": 2, "log": "x",
        }))
        .unwrap()
    }

    fn report_of(state_word: &str, slot: Option<&str>) -> Report {
        let service = service("haproxy");
        let slots =
            slot.map(|status| Slot { status: status.to_owned(), ..Slot::default() }).into_iter().collect();
        let balancer = Some(Balancer { slots, ..Balancer::default() });
        let look = Look { state: state_word.to_owned(), balancer, ..Look::default() };
        let usage = Some(Usage { memory_bytes: 300, cpu_percent: 50.0 });
        let seen = [Seen { service: &service, look, usage }];
        let machine = Some(Machine { cores: 2, memory_bytes: 1000 });
        Report::new(&State::of_own("medium", &[]).unwrap(), machine, &seen)
    }

    #[test]
    fn all_is_ready_only_where_every_service_and_slot_is() {
        assert_eq!(report_of("ready", Some("UP")).exit_code(), 0);
        assert_eq!(report_of("ready", None).exit_code(), 0);
        assert_eq!(report_of("degraded", Some("UP")).exit_code(), 1);
        assert_eq!(report_of("ready", Some("DOWN")).exit_code(), 1);
        assert_eq!(Report::default().exit_code(), 3);
    }

    #[test]
    fn missed_objective_fails_and_one_without_data_does_not() {
        let mut report = report_of("ready", None);
        let objectives = objective::compare(&report, None);
        // A quarter of the processor is below the plan's 45 %, 30 % of memory below its 68 %.
        let verdicts: Vec<Verdict> = objectives.iter().map(|objective| objective.verdict).collect();
        let (none, met) = (Verdict::NoData, Verdict::Met);
        assert_eq!(verdicts, [none, none, none, met, met]);
        report.objectives = Some(objectives);
        assert_eq!(report.exit_code(), 0);
        if let Some(objective) = report.objectives.iter_mut().flatten().last() {
            objective.verdict = Verdict::Missed;
        }
        assert_eq!(report.exit_code(), 1);
    }

    #[test]
    fn usage_is_summed_over_services_and_unknown_where_there_are_none() {
        let report = report_of("ready", None);
        assert_eq!((report.memory_bytes(), report.cpu_share()), (Some(300), Some(0.25)));
        assert_eq!((Report::default().memory_bytes(), Report::default().cpu_share()), (None, None));
    }

    #[test]
    fn names_of_fields_in_json_stay_as_they_are() {
        let report = serde_json::to_value(report_of("ready", Some("UP"))).unwrap();
        let names = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let of_report = [
            "balancer",
            "cache",
            "machine",
            "model",
            "models",
            "notes",
            "objectives",
            "ready",
            "running",
            "services",
            "url",
        ];
        assert_eq!(names(&report), of_report);
        let of_service = ["load", "name", "pid", "port", "restarts", "state", "uptime_s", "usage", "version"];
        assert_eq!(names(&report["services"][0]), of_service);
        let of_load = ["in_flight", "permits_max", "queue_texts", "requests_per_s", "texts_per_s"];
        assert_eq!(names(&report["services"][0]["load"]), of_load);
        assert_eq!(names(&report["cache"]), ["l1", "l2", "shard", "total"]);
    }
}

//! Which services run, on which ports.
//!
//! ```text
//! embedding-single ─┬─▶ haproxy ─▶ ml-base-1 … ml-base-N        without HAProxy: ml-base-1, on the port of HAProxy
//!                   └─▶ cache-shard                             what is asked starts before what asks
//! ```

use std::ffi::OsStr;
use std::iter;
use std::path::Path;
use std::time::Duration;

use super::Refused;
use super::host::Host;
use crate::cli::GridArgs;
use crate::haproxy::{Haproxy, INSTALL};
use crate::model;
use crate::state::{Balancer, CACHE_SHARD, EMBEDDING_SINGLE};
use crate::supervisor::{Limits, RestartPolicy};

/// Replicas where nothing else is asked for and HAProxy is there: one of them can die.
const REPLICAS_BALANCED: u16 = 2;

/// Bounds of the grid: loading a large model on a slow disk takes a minute, draining a few seconds.
pub(crate) const LIMITS: Limits = Limits {
    ready_timeout: Duration::from_secs(180),
    drain_timeout: Duration::from_secs(15),
    restart: RestartPolicy {
        delay_min: Duration::from_millis(200),
        delay_max: Duration::from_secs(10),
        reset_after: Duration::from_secs(30),
    },
};

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) embedding: u16,
    /// Where clients of ml-base ask: HAProxy, or the only replica.
    pub(super) front: u16,
    pub(super) shard: u16,
    /// HAProxy's statistics.
    pub(super) stats: u16,
    /// The first replica behind HAProxy; the others follow.
    pub(super) replicas_from: u16,
}

impl Ports {
    const USUAL: Self = Self { embedding: 8888, front: 8887, shard: 50052, stats: 9999, replicas_from: 8901 };

    /// In a row from `first`. The command line allows none so high that a sum would not fit.
    fn from(first: u16) -> Self {
        let port = |offset| first.saturating_add(offset);
        Self { embedding: first, front: port(1), shard: port(2), stats: port(3), replicas_from: port(4) }
    }
}

/// What a service is in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role<'p> {
    CacheShard,
    MlBase { index: u16 },
    Haproxy { program: &'p Path },
    EmbeddingSingle,
}

impl Role<'_> {
    /// Name in messages, in the state file, and of the log.
    pub(super) fn name(self) -> String {
        match self {
            Self::CacheShard => CACHE_SHARD.to_owned(),
            Self::MlBase { index } => format!("ml-base-{}", index + 1),
            Self::Haproxy { .. } => "haproxy".to_owned(),
            Self::EmbeddingSingle => EMBEDDING_SINGLE.to_owned(),
        }
    }
}

/// The grid to start.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) ports: Ports,
    pub(super) replicas: u16,
    pub(super) host: Host,
}

impl Plan {
    /// The grid that `args` ask for on this machine.
    ///
    /// # Errors
    /// Where it lacks what they ask for.
    pub(super) fn of(args: &GridArgs) -> Result<Self, Refused> {
        Self::new(args, Host::find(args)?)
    }

    fn new(args: &GridArgs, host: Host) -> Result<Self, Refused> {
        let replicas = match (&host.haproxy, args.replicas) {
            (Haproxy::At(_), asked) => asked.unwrap_or(REPLICAS_BALANCED),
            (Haproxy::NotInstalled | Haproxy::LeftOut, None | Some(1)) => 1,
            (Haproxy::NotInstalled, Some(count)) => {
                let advice = format!("install it with `{INSTALL}`");
                return Err(Refused(format!(
                    "--replicas {count} needs HAProxy, which is not installed; {advice}"
                )));
            }
            (Haproxy::LeftOut, Some(count)) => {
                return Err(Refused(format!(
                    "--replicas {count} needs HAProxy, which `--haproxy none` leaves out"
                )));
            }
        };
        let ports = args.ports_from.map_or(Ports::USUAL, Ports::from);
        Ok(Self { model: model::absolute_directory(&args.model), ports, replicas, host })
    }

    /// Why there are fewer replicas than usual, where the user has not chosen that.
    pub(super) fn note_on_replicas(&self, args: &GridArgs) -> Option<String> {
        (self.host.haproxy == Haproxy::NotInstalled && args.replicas.is_none()).then(|| {
            let port = self.ports.front;
            format!("HAProxy is not installed (`{INSTALL}`), so one replica of ml-base runs, on port {port} itself")
        })
    }

    /// The services and their ports in the order they start.
    pub(super) fn services(&self) -> Vec<(Role<'_>, u16)> {
        let balancer = self.balancer_program().map(|program| (Role::Haproxy { program }, self.ports.front));
        let first = if balancer.is_some() { self.ports.replicas_from } else { self.ports.front };
        let replica = |index| (Role::MlBase { index }, first.saturating_add(index));
        iter::once((Role::CacheShard, self.ports.shard))
            .chain((0..self.replicas).map(replica))
            .chain(balancer)
            .chain(iter::once((Role::EmbeddingSingle, self.ports.embedding)))
            .collect()
    }

    /// Every port that has to be free, and what for.
    pub(super) fn ports(&self) -> Vec<(String, u16)> {
        let stats = || ("the statistics of haproxy".to_owned(), self.ports.stats);
        let services = self.services();
        let named = services.into_iter().map(|(role, port)| (role.name(), port));
        named.chain(self.balancer_program().map(|_| stats())).collect()
    }

    /// What the caller names in `ML_BASE_MODELS`. Directories are absolute: services do not run where the caller is.
    pub(super) fn further_models(&self) -> Vec<String> {
        let names = self.host.variable("ML_BASE_MODELS").map(|names| names.to_string_lossy().into_owned());
        let names = names.unwrap_or_default();
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(model::absolute_directory).collect()
    }

    /// How others talk to HAProxy, where it runs.
    pub(super) fn balancer(&self, admin_socket: &Path) -> Option<Balancer> {
        self.balancer_program()
            .map(|_| Balancer { stats_port: self.ports.stats, admin_socket: admin_socket.to_owned() })
    }

    /// Threads that `up` gives the replica with this index; none where that is left to the caller or to ml-base.
    pub(super) fn threads(&self, index: u16) -> Option<usize> {
        let divided = self.replicas > 1 && self.host.variable("WORKER_THREADS").is_none();
        divided.then(|| self.host.threads(self.replicas.into(), index.into()))
    }

    /// Where the caller wants the vectors to lie, if anywhere.
    pub(super) fn storage(&self) -> Option<&OsStr> {
        self.host.variable("STORAGE_PATH")
    }

    /// Whether embedding-single asks for a key: it reads the same variable.
    pub(super) fn asks_for_key(&self) -> bool {
        self.host.variable("API_KEY").is_some()
    }

    fn balancer_program(&self) -> Option<&Path> {
        match &self.host.haproxy {
            Haproxy::At(program) => Some(program),
            Haproxy::NotInstalled | Haproxy::LeftOut => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn args(ports_from: Option<u16>, replicas: Option<u16>) -> GridArgs {
        GridArgs { model: "medium".to_owned(), ports_from, replicas, haproxy: None }
    }

    fn installed() -> Haproxy {
        Haproxy::At("/opt/haproxy".into())
    }

    /// A grid on two cores.
    pub(in crate::up) fn plan(args: &GridArgs, haproxy: Haproxy, variables: &[(&str, &str)]) -> Plan {
        Plan::new(args, Host::of_test(2, haproxy, variables)).unwrap()
    }

    /// Replicas behind HAProxy.
    pub(in crate::up) fn balanced(ports_from: Option<u16>, replicas: u16) -> Plan {
        balanced_with(ports_from, replicas, &[])
    }

    /// Replicas behind HAProxy, started by a caller with these variables.
    pub(in crate::up) fn balanced_with(
        ports_from: Option<u16>,
        replicas: u16,
        variables: &[(&str, &str)],
    ) -> Plan {
        plan(&args(ports_from, Some(replicas)), installed(), variables)
    }

    /// One replica without HAProxy.
    pub(in crate::up) fn unbalanced(ports_from: Option<u16>) -> Plan {
        plan(&args(ports_from, None), Haproxy::NotInstalled, &[])
    }

    fn refusal(replicas: u16, haproxy: Haproxy) -> String {
        let host = Host::of_test(2, haproxy, &[]);
        Plan::new(&args(None, Some(replicas)), host).unwrap_err().to_string()
    }

    fn listed(plan: &Plan) -> String {
        let ports: Vec<String> = plan.ports().iter().map(|(name, port)| format!("{name} {port}")).collect();
        ports.join(", ")
    }

    #[test]
    fn replicas_stand_behind_the_balancer_on_the_usual_ports() {
        assert_eq!(
            listed(&balanced(None, 3)),
            "cache-shard 50052, ml-base-1 8901, ml-base-2 8902, ml-base-3 8903, haproxy 8887, \
             embedding-single 8888, the statistics of haproxy 9999"
        );
    }

    #[test]
    fn all_ports_follow_from_the_first() {
        assert_eq!(
            listed(&balanced(Some(9000), 2)),
            "cache-shard 9002, ml-base-1 9004, ml-base-2 9005, haproxy 9001, embedding-single 9000, \
             the statistics of haproxy 9003"
        );
        let last = balanced(Some(65524), 8).ports().into_iter().map(|(_, port)| port).max();
        assert_eq!(last, Some(u16::MAX));
    }

    #[test]
    fn replica_without_a_balancer_takes_its_port() {
        assert_eq!(listed(&unbalanced(None)), "cache-shard 50052, ml-base-1 8887, embedding-single 8888");
        assert_eq!(unbalanced(None).balancer(Path::new("/s")), None);
    }

    #[test]
    fn two_replicas_run_where_haproxy_is_and_one_where_it_is_not() {
        let note = |haproxy, replicas| {
            let args = args(None, replicas);
            let plan = plan(&args, haproxy, &[]);
            (plan.replicas, plan.note_on_replicas(&args))
        };
        assert_eq!(note(installed(), None), (2, None));
        let sentence = "HAProxy is not installed (`apt-get install haproxy`), so one replica of ml-base runs, on port 8887 itself";
        assert_eq!(note(Haproxy::NotInstalled, None), (1, Some(sentence.to_owned())));
        assert_eq!(note(Haproxy::NotInstalled, Some(1)), (1, None));
        assert_eq!(note(Haproxy::LeftOut, None), (1, None));
    }

    #[test]
    fn several_replicas_without_haproxy_are_refused_with_the_package_that_lacks() {
        assert_eq!(
            refusal(2, Haproxy::NotInstalled),
            "--replicas 2 needs HAProxy, which is not installed; install it with `apt-get install haproxy`"
        );
        assert_eq!(
            refusal(2, Haproxy::LeftOut),
            "--replicas 2 needs HAProxy, which `--haproxy none` leaves out"
        );
    }
}

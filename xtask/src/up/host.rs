//! What the machine and the caller bring along: cores, HAProxy, variables.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::thread;

use super::Refused;
use crate::cli::GridArgs;
use crate::haproxy::Haproxy;

/// Calls at once that the balancer gives one replica; what comes beyond waits in the balancer.
const BALANCED_CALLS_MAX: usize = 32;
/// Calls at once of a replica of the edition `simple`. Those of the others are more than the balancer gives.
const SIMPLE_CALLS_MAX: usize = 8;

/// Where the services will run, and what the caller set.
#[derive(Clone, Debug)]
pub(super) struct Host {
    cores: usize,
    pub(super) haproxy: Haproxy,
    variables: BTreeMap<OsString, OsString>,
}

impl Host {
    /// This machine, and the environment of this process.
    pub(super) fn find(args: &GridArgs) -> Result<Self, Refused> {
        let haproxy = Haproxy::choose(args.haproxy.as_deref()).map_err(|path| {
            Refused(format!("there is no program at {}; give `--haproxy` the path of one", path.display()))
        })?;
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
        Ok(Self { cores, haproxy, variables: env::vars_os().collect() })
    }

    /// A machine of a test.
    #[cfg(test)]
    pub(super) fn of_test(cores: usize, haproxy: Haproxy, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { cores, haproxy, variables }
    }

    /// What the caller set; an empty variable is as good as none.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Threads of the replica with this index among `replicas`: the cores divided, at least one for each.
    pub(super) fn threads(&self, replicas: usize, index: usize) -> usize {
        let remainder = self.cores % replicas;
        (self.cores / replicas + usize::from(index < remainder)).max(1)
    }

    /// Threads beside these that a replica may use while the others want no core.
    pub(super) fn spare_threads(&self, threads: usize) -> usize {
        self.cores.saturating_sub(threads)
    }

    /// Calls at once that the balancer may give one replica, so that none is refused by its own permits.
    pub(super) fn balanced_calls_max(&self) -> usize {
        let number = |value: &OsStr| value.to_str()?.parse().ok();
        if let Some(chosen) = self.variable("ML_BASE_LB_MAXCONN").and_then(number) {
            return chosen;
        }
        let permits = self
            .variable("ML_BASE_CALLS_MAX")
            .and_then(number)
            .or_else(|| (self.variable("SUTRA_EDITION")? == "simple").then_some(SIMPLE_CALLS_MAX));
        permits.map_or(BALANCED_CALLS_MAX, |permits| permits.min(BALANCED_CALLS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cores: usize, variables: &[(&str, &str)]) -> Host {
        Host::of_test(cores, Haproxy::NotInstalled, variables)
    }

    #[test]
    fn every_core_has_one_replica_and_every_replica_a_thread() {
        let threads = |cores, replicas| -> Vec<usize> {
            (0..replicas).map(|index| host(cores, &[]).threads(replicas, index)).collect()
        };
        assert_eq!(threads(2, 1), [2]);
        assert_eq!(threads(2, 2), [1, 1]);
        assert_eq!(threads(2, 3), [1, 1, 1]);
        assert_eq!(threads(8, 3), [3, 3, 2]);
        for (cores, replicas) in (1..=64).flat_map(|cores| (1..=8).map(move |replicas| (cores, replicas))) {
            let sum: usize = threads(cores, replicas).iter().sum();
            assert_eq!(sum, cores.max(replicas), "{cores} cores, {replicas} replicas");
        }
    }

    #[test]
    fn balancer_gives_a_replica_no_more_than_its_permits() {
        for (variables, expected) in [
            ([("SUTRA_EDITION", ""), ("ML_BASE_CALLS_MAX", "")], 32),
            ([("SUTRA_EDITION", "community"), ("ML_BASE_CALLS_MAX", "")], 32),
            ([("SUTRA_EDITION", "simple"), ("ML_BASE_CALLS_MAX", "")], 8),
            ([("SUTRA_EDITION", "simple"), ("ML_BASE_CALLS_MAX", "20")], 20),
            ([("SUTRA_EDITION", "enterprise"), ("ML_BASE_CALLS_MAX", "1000")], 32),
            ([("SUTRA_EDITION", "simple"), ("ML_BASE_LB_MAXCONN", "5")], 5),
        ] {
            assert_eq!(host(2, &variables).balanced_calls_max(), expected, "{variables:?}");
        }
    }

    #[test]
    fn empty_variable_is_not_set() {
        let host = host(2, &[("A", ""), ("B", "b")]);
        assert_eq!(host.variable("A"), None);
        assert_eq!(host.variable("B"), Some(OsStr::new("b")));
    }
}

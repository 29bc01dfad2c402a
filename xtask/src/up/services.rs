//! The services of a plan as the supervisor starts them: program, arguments, variables.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::host::Host;
use super::plan::{Plan, Role};
use crate::supervisor::ServiceSpec;
use crate::workspace::Workspace;

/// Every precision class that a proxy can take.
const ALL_CLASSES: &str = "float32,bfloat16,float16,int8";
/// Server lines of the balancer's file.
const REPLICAS_MAX: u16 = 8;

/// Every service of `plan`, in the order they start. HAProxy takes orders at `admin_socket`.
pub(super) fn specs(plan: &Plan, workspace: &Workspace, admin_socket: &Path) -> Result<Vec<ServiceSpec>> {
    let binaries = workspace.binaries()?;
    let grid = Grid { plan, workspace, admin_socket, binaries: &binaries };
    Ok(plan.services().into_iter().map(|(role, port)| grid.spec(role, port)).collect())
}

/// What the specification of a service is made of.
struct Grid<'g> {
    plan: &'g Plan,
    workspace: &'g Workspace,
    admin_socket: &'g Path,
    /// The folder that cargo builds into.
    binaries: &'g Path,
}

impl Grid<'_> {
    fn spec(&self, role: Role<'_>, port: u16) -> ServiceSpec {
        let name = role.name();
        let log = self.workspace.logs().join(format!("{name}.log"));
        let env = self.variables(role, port).set;
        let (program, args) = (self.program(role), self.args(role));
        ServiceSpec { name, program, args, env_removed: removed(role), env, log, port }
    }

    fn program(&self, role: Role<'_>) -> PathBuf {
        match role {
            Role::CacheShard => self.binaries.join("cache-shard"),
            Role::MlBase { .. } => self.binaries.join("ml-base"),
            Role::Haproxy { program } => program.to_owned(),
            Role::EmbeddingSingle => self.binaries.join("embedding-single"),
        }
    }

    fn args(&self, role: Role<'_>) -> Vec<OsString> {
        match role {
            // A master with a worker, in the foreground: SIGUSR2 then loads the file again and no connection is lost.
            Role::Haproxy { .. } => {
                vec!["-W".into(), "-db".into(), "-f".into(), self.workspace.balancer_configuration().into()]
            }
            Role::CacheShard | Role::MlBase { .. } | Role::EmbeddingSingle => Vec::new(),
        }
    }

    fn variables(&self, role: Role<'_>, port: u16) -> Variables<'_> {
        let none = Variables { host: &self.plan.host, set: Vec::new() };
        // One id of the caller for all of them would make their answers and logs alike.
        let named = none.fixed("INSTANCE_ID", role.name());
        match role {
            Role::CacheShard => named
                .fixed("STORAGE_PORT", port.to_string())
                .unless_given("STORAGE_PATH", self.workspace.cache()),
            Role::MlBase { index } => self.of_ml_base(named, index, port),
            Role::Haproxy { .. } => self.of_haproxy(named),
            Role::EmbeddingSingle => self.of_embedding_single(named),
        }
    }

    fn of_ml_base<'v>(&self, variables: Variables<'v>, index: u16, port: u16) -> Variables<'v> {
        let variables = variables
            .fixed("ML_BASE_PORT", port.to_string())
            .fixed("MODEL_NAME", &self.plan.model)
            .fixed("ML_BASE_MODELS", self.plan.further_models().join(","))
            .fixed("ML_BASE_MODEL_STORE", self.workspace.models())
            // The engine has threads of its own; without this candle reads /proc/cpuinfo before every product.
            .fixed("RAYON_NUM_THREADS", "1");
        match self.plan.threads(index) {
            // As many tokenize, unless the caller says otherwise.
            Some(threads) => variables
                .unless_given("WORKER_THREADS", threads.to_string())
                .unless_given("SPARE_THREADS", self.plan.host.spare_threads(threads).to_string()),
            None => variables,
        }
    }

    fn of_haproxy<'v>(&self, variables: Variables<'v>) -> Variables<'v> {
        let ports = self.plan.ports;
        let calls_max = self.plan.host.balanced_calls_max();
        let common = variables
            .fixed("ML_BASE_LB_BIND", loopback(ports.front))
            .fixed("ML_BASE_LB_STATS", format!("ipv4@{}", loopback(ports.stats)))
            .fixed("ML_BASE_LB_ADMIN", self.admin_socket)
            .unless_given("ML_BASE_LB_MAXCONN", calls_max.to_string());
        let replica = |(role, port)| match role {
            Role::MlBase { index } => Some((format!("ML_BASE_{}", index + 1), loopback(port))),
            Role::CacheShard | Role::Haproxy { .. } | Role::EmbeddingSingle => None,
        };
        let replicas = self.plan.services().into_iter().filter_map(replica);
        replicas.fold(common, |variables, (name, address)| variables.fixed(&name, address))
    }

    fn of_embedding_single<'v>(&self, variables: Variables<'v>) -> Variables<'v> {
        let ports = self.plan.ports;
        // As many as the balancer lets through: a text that need not gather with others is not late with them.
        let calls_max = self.plan.host.balanced_calls_max().saturating_mul(self.plan.replicas.into());
        let variables = match self.plan.host.variable("ML_BASE_DTYPE") {
            // By itself the proxy takes no int8: whoever asks the replicas for it here means the whole grid.
            Some(dtype) if dtype == "int8" => {
                variables.unless_given("EMBEDDING_PRECISION_CLASSES", ALL_CLASSES)
            }
            Some(_) | None => variables,
        };
        let variables = match self.plan.host.variable("SUTRA_CACHE_SHARDS") {
            // Whoever names shards means those, and a proxy that is told of one beside them does not start.
            Some(_) => variables,
            None => variables
                .fixed("SUTRA_CACHE_HOST", "127.0.0.1")
                .fixed("SUTRA_CACHE_PORT", ports.shard.to_string()),
        };
        variables
            .fixed("EMBEDDING_PORT", ports.embedding.to_string())
            .fixed("ML_BASE_URL", format!("http://{}", loopback(ports.front)))
            .unless_given("SUTRA_CACHE_ENABLED", "true")
            .unless_given("EMBEDDING_ML_BASE_CALLS_MAX", calls_max.to_string())
    }
}

/// The balancer takes every replica that it is told of, and `ML_BASE_DNS` before all: only ours are meant.
fn removed(role: Role<'_>) -> Vec<String> {
    match role {
        Role::Haproxy { .. } => {
            let replicas = (1..=REPLICAS_MAX).map(|number| format!("ML_BASE_{number}"));
            replicas.chain(["ML_BASE_DNS".to_owned()]).collect()
        }
        Role::CacheShard | Role::MlBase { .. } | Role::EmbeddingSingle => Vec::new(),
    }
}

fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Variables of one service, beside those of the caller.
struct Variables<'h> {
    host: &'h Host,
    set: Vec<(String, OsString)>,
}

impl Variables<'_> {
    /// Without it the parts of the grid would not find each other, so it wins over the caller.
    fn fixed(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.set.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A good choice, where the caller has made none.
    fn unless_given(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        match self.host.variable(name) {
            Some(_) => self,
            None => self.fixed(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plan::tests::{balanced, balanced_with, unbalanced};

    fn specs_of(plan: &Plan) -> Vec<ServiceSpec> {
        let workspace = Workspace::at(Path::new("/w"));
        let (admin_socket, binaries) = (Path::new("/run/admin.sock"), Path::new("/w/target/release"));
        let grid = Grid { plan, workspace: &workspace, admin_socket, binaries };
        plan.services().into_iter().map(|(role, port)| grid.spec(role, port)).collect()
    }

    fn spec(plan: &Plan, name: &str) -> ServiceSpec {
        specs_of(plan).into_iter().find(|spec| spec.name == name).unwrap()
    }

    /// A variable that `up` sets for a service.
    fn variable(plan: &Plan, service: &str, name: &str) -> Option<String> {
        let set = spec(plan, service).env.into_iter().find(|(known, _)| known == name);
        set.map(|(_, value)| value.into_string().unwrap())
    }

    #[test]
    fn what_is_asked_starts_before_what_asks() {
        let names: Vec<String> = specs_of(&balanced(None, 2)).into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, ["cache-shard", "ml-base-1", "ml-base-2", "haproxy", "embedding-single"]);
    }

    #[test]
    fn embedding_single_is_told_where_the_others_are() {
        for plan in [balanced(Some(9000), 2), unbalanced(Some(9000))] {
            let told = |name| variable(&plan, "embedding-single", name);
            assert_eq!(told("ML_BASE_URL").as_deref(), Some("http://127.0.0.1:9001"));
            assert_eq!(told("SUTRA_CACHE_HOST").as_deref(), Some("127.0.0.1"));
            assert_eq!(told("SUTRA_CACHE_PORT").as_deref(), Some("9002"));
            assert_eq!(told("SUTRA_CACHE_ENABLED").as_deref(), Some("true"));
        }
    }

    #[test]
    fn shards_that_the_caller_names_stand_alone() {
        let plan = balanced_with(None, 2, &[("SUTRA_CACHE_SHARDS", "a:1,b:2")]);
        for name in ["SUTRA_CACHE_SHARDS", "SUTRA_CACHE_HOST", "SUTRA_CACHE_PORT"] {
            assert_eq!(variable(&plan, "embedding-single", name), None, "{name}");
        }
    }

    #[test]
    fn further_models_are_passed_on_to_every_replica() {
        let plan = balanced_with(None, 2, &[("ML_BASE_MODELS", "small, /,bge-small-en-v1.5,")]);
        for replica in ["ml-base-1", "ml-base-2"] {
            let told = variable(&plan, replica, "ML_BASE_MODELS");
            assert_eq!(told.as_deref(), Some("small,/,bge-small-en-v1.5"));
        }
        assert_eq!(variable(&balanced(None, 2), "ml-base-1", "ML_BASE_MODELS").as_deref(), Some(""));
    }

    #[test]
    fn calls_at_once_grow_with_the_replicas() {
        let calls = |plan| variable(&plan, "embedding-single", "EMBEDDING_ML_BASE_CALLS_MAX").unwrap();
        assert_eq!(calls(unbalanced(None)), "32");
        assert_eq!(calls(balanced(None, 2)), "64");
        assert_eq!(calls(balanced(None, 8)), "256");
    }

    #[test]
    fn proxy_takes_int8_where_the_replicas_are_asked_for_it() {
        let classes = |variables: &[(&str, &str)]| {
            variable(&balanced_with(None, 2, variables), "embedding-single", "EMBEDDING_PRECISION_CLASSES")
        };
        assert_eq!(classes(&[("ML_BASE_DTYPE", "int8")]).as_deref(), Some(ALL_CLASSES));
        assert_eq!(classes(&[("ML_BASE_DTYPE", "bfloat16")]), None);
        assert_eq!(classes(&[("ML_BASE_DTYPE", "int8"), ("EMBEDDING_PRECISION_CLASSES", "int8")]), None);
    }

    #[test]
    fn balancer_is_told_its_replicas_and_no_others() {
        let haproxy = spec(&balanced(Some(9000), 2), "haproxy");
        let env: Vec<String> =
            haproxy.env.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        let expected = [
            "INSTANCE_ID=haproxy",
            "ML_BASE_LB_BIND=127.0.0.1:9001",
            "ML_BASE_LB_STATS=ipv4@127.0.0.1:9003",
            "ML_BASE_LB_ADMIN=/run/admin.sock",
            "ML_BASE_LB_MAXCONN=32",
            "ML_BASE_1=127.0.0.1:9004",
            "ML_BASE_2=127.0.0.1:9005",
        ];
        assert_eq!(env, expected);
        for foreign in ["ML_BASE_DNS", "ML_BASE_3", "ML_BASE_8"] {
            assert!(haproxy.env_removed.iter().any(|name| name == foreign), "{foreign}");
        }
        assert_eq!(haproxy.program, Path::new("/opt/haproxy"));
        assert_eq!(haproxy.args, ["-W", "-db", "-f", "/w/haproxy/ml-base-lb.cfg"]);
        assert_eq!(haproxy.port, 9001);
    }

    #[test]
    fn cores_are_divided_among_replicas_and_left_to_a_single_one() {
        let threads = |plan: &Plan, service| variable(plan, service, "WORKER_THREADS");
        assert_eq!(threads(&balanced(None, 2), "ml-base-1").as_deref(), Some("1"));
        assert_eq!(threads(&balanced(None, 2), "ml-base-2").as_deref(), Some("1"));
        assert_eq!(threads(&unbalanced(None), "ml-base-1"), None);
    }

    #[test]
    fn replica_may_use_the_cores_of_the_others_while_these_rest() {
        let spare = |plan: &Plan| variable(plan, "ml-base-1", "SPARE_THREADS");
        assert_eq!(spare(&balanced(None, 2)).as_deref(), Some("1"));
        assert_eq!(spare(&balanced_with(None, 2, &[("SPARE_THREADS", "0")])), None);
        assert_eq!(spare(&balanced_with(None, 2, &[("WORKER_THREADS", "2")])), None);
        assert_eq!(spare(&unbalanced(None)), None);
    }

    #[test]
    fn choice_of_the_caller_stays_but_addresses_are_ours() {
        let variables = [
            ("WORKER_THREADS", "7"),
            ("EMBEDDING_ML_BASE_CALLS_MAX", "3"),
            ("SUTRA_CACHE_ENABLED", "false"),
            ("STORAGE_PATH", "/elsewhere"),
            ("ML_BASE_LB_MAXCONN", "5"),
            ("ML_BASE_URL", "http://another:1"),
            ("INSTANCE_ID", "mine"),
        ];
        let plan = balanced_with(Some(9000), 2, &variables);
        assert_eq!(variable(&plan, "ml-base-1", "WORKER_THREADS"), None);
        assert_eq!(variable(&plan, "embedding-single", "EMBEDDING_ML_BASE_CALLS_MAX"), None);
        assert_eq!(variable(&plan, "embedding-single", "SUTRA_CACHE_ENABLED"), None);
        assert_eq!(variable(&plan, "cache-shard", "STORAGE_PATH"), None);
        assert_eq!(variable(&plan, "haproxy", "ML_BASE_LB_MAXCONN"), None);
        assert!(variable(&plan, "embedding-single", "ML_BASE_URL").is_some());
        assert_eq!(variable(&plan, "ml-base-2", "INSTANCE_ID").as_deref(), Some("ml-base-2"));
    }

    #[test]
    fn vectors_lie_where_the_next_start_finds_them() {
        let spec = spec(&balanced(None, 2), "cache-shard");
        assert!(spec.env.contains(&("STORAGE_PATH".to_owned(), "/w/.sutra/cache".into())));
        assert!(spec.env.contains(&("STORAGE_PORT".to_owned(), "50052".into())));
        assert_eq!(spec.log, Path::new("/w/.sutra/logs/cache-shard.log"));
    }
}

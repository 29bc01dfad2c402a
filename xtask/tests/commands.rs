//! The commands as a user starts them, on shell scripts in place of cargo and the services.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The variable that names HAProxy to xtask.
const HAPROXY: &str = "SUTRA_HAPROXY";
/// Ports of a grid with as many replicas as there can be.
const ROW_PORTS: u16 = 12;
/// Where the rows of ports begin, and how many there are.
const ROWS_FROM: u16 = 20_000;
const ROWS: u16 = 1000;
/// Variables that would change what `up` chooses.
const CHOICES: [&str; 10] = [
    "API_KEY",
    "EMBEDDING_ML_BASE_CALLS_MAX",
    "ML_BASE_CALLS_MAX",
    "ML_BASE_LB_MAXCONN",
    "MODEL_NAME",
    "STORAGE_PATH",
    "SUTRA_CACHE_ENABLED",
    "SUTRA_EDITION",
    "WORKER_THREADS",
    "SPARE_THREADS",
];
/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A workspace of its own under a temporary root. What runs there ends with it.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        fs::create_dir_all(folder.path().join("target")).unwrap();
        fs::create_dir_all(folder.path().join("model")).unwrap();
        std::os::unix::fs::symlink(&fake, folder.path().join("target/release")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn xtask(&self, args: &[&str]) -> Command {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask
            .args(args)
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("CARGO", self.path("target/release/cargo"))
            .env("ROOT", self.folder.path())
            .env("OF_THE_CALLER", "passed on")
            .env(HAPROXY, self.path("target/release/haproxy"))
            .stdin(Stdio::null());
        for name in CHOICES {
            xtask.env_remove(name);
        }
        xtask
    }

    fn run(&self, args: &[&str]) -> Output {
        self.xtask(args).output().unwrap()
    }

    /// The environment that a service was started with, a line for each variable.
    fn env(&self, service: &str) -> String {
        fs::read_to_string(self.path(&format!("{service}.env"))).unwrap()
    }

    fn has(&self, service: &str, variable: &str) {
        let env = self.env(service);
        assert!(env.lines().any(|line| line == variable), "{service} lacks {variable}:\n{env}");
    }

    /// Makes a named pipe: to open it waits for the other side.
    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first of the ports of a grid, all free. No other test takes them meanwhile: they lie below those that the kernel
/// gives out, in a place that follows from this process and the number of calls.
fn free_row() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let place = std::process::id().wrapping_mul(8).wrapping_add(CALLS.fetch_add(1, Relaxed));
    let first = |attempt: u32| {
        let row = u16::try_from(place.wrapping_add(attempt * 257) % u32::from(ROWS)).unwrap();
        ROWS_FROM + row * ROW_PORTS
    };
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    let is_free = |first: &u16| (*first..*first + ROW_PORTS).all(|port| bind(port).is_ok());
    (0..100).map(first).find(is_free).expect("free ports in a row")
}

/// Serves `/health` and `/embed` on `port` until the test ends; ready once `ready_file` exists.
fn serve(port: u16, ready_file: PathBuf) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let answer = match (text(&request[..length]).starts_with("POST /embed "), ready_file.exists()) {
                (true, _) => "200 OK\r\n\r\n[[1, 0], [0.6, 0.8]]",
                (false, true) => "200 OK\r\n\r\n{\"status\": \"ready\"}",
                (false, false) => "503 Service Unavailable\r\n\r\n{\"status\": \"loading\"}",
            };
            write!(stream, "HTTP/1.0 {answer}").unwrap();
        }
    });
}

/// Starts a grid with `up --detach ARGS`; gives back its first port and what it said. `files` are those that its services
/// write, in the order of their ports.
fn up_detached(sandbox: &Sandbox, set: impl FnOnce(&mut Command), files: &[(u16, &str)]) -> (u16, Output) {
    let (fetching, go_on) = (sandbox.pipe("fetching"), sandbox.pipe("go-on"));
    let port = free_row();
    let mut up = sandbox.xtask(&["up", "--detach", "--ports-from", &port.to_string()]);
    set(&mut up);
    let (sender, output) = channel();
    thread::spawn(move || sender.send(up.output().unwrap()).unwrap());
    let (fetch_sender, fetch) = channel();
    thread::spawn(move || fetch_sender.send(fs::read_to_string(fetching).unwrap()).unwrap());
    assert_eq!(fetch.recv_timeout(PATIENCE).expect("the model is fetched"), "medium\n");
    for (offset, service) in files {
        serve(port + offset, sandbox.path(&format!("{service}.env")));
    }
    fs::write(go_on, "now\n").unwrap();
    (port, output.recv_timeout(PATIENCE).expect("up --detach returns"))
}

/// Services behind HAProxy, by their distance from the first port.
const BALANCED: [(u16, &str); 5] =
    [(0, "embedding-single"), (1, "haproxy"), (2, "cache-shard"), (4, "ml-base-1"), (5, "ml-base-2")];
/// Services without HAProxy.
const UNBALANCED: [(u16, &str); 3] = [(0, "embedding-single"), (1, "ml-base-1"), (2, "cache-shard")];

/// The processes that the state file names.
fn pids(sandbox: &Sandbox) -> Vec<u64> {
    let state: Value =
        serde_json::from_slice(&fs::read(sandbox.path(".sutra/run/state.json")).unwrap()).unwrap();
    let services = state["services"].as_array().unwrap();
    services.iter().map(|service| service["process"]["pid"].as_u64().unwrap()).collect()
}

#[test]
fn detached_grid_comes_up_is_used_and_goes_down() {
    let sandbox = Sandbox::new();
    let (port, up) = up_detached(&sandbox, |_| {}, &BALANCED);
    let said = text(&up.stdout);
    assert!(up.status.success(), "{said}{}", text(&up.stderr));
    assert!(said.contains("cosine similarity of 0.6000"), "{said}");
    assert!(said.contains(&format!("curl -s http://127.0.0.1:{port}/embed")), "{said}");
    assert_eq!(fs::read_to_string(sandbox.path("built")).unwrap(), "build --workspace --bins --release\n");

    let status = sandbox.run(&["status"]);
    assert!(status.status.success(), "{}", text(&status.stdout));
    for (_, service) in BALANCED {
        assert!(text(&status.stdout).contains(service), "{service}: {}", text(&status.stdout));
    }

    let second = sandbox.run(&["up"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("cargo xtask down"), "{}", text(&second.stderr));

    let embed = sandbox.run(&["embed", "--file", "texts.txt", "--out", "-"]);
    assert_eq!(text(&embed.stdout), format!("--file texts.txt --out - --url http://127.0.0.1:{port}\n"));

    let pids = pids(&sandbox);
    assert_eq!(pids.len(), BALANCED.len());
    let bench = text(&sandbox.run(&["bench", "serve"]).stdout);
    assert!(bench.starts_with(&format!("--url http://127.0.0.1:{port} ")), "{bench}");
    for pid in &pids {
        assert!(bench.contains(&format!("--server-pid {pid}")), "{pid}: {bench}");
    }

    let down = sandbox.run(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(text(&down.stdout).ends_with("stopped\n"), "{}", text(&down.stdout));
    assert!(!sandbox.path(".sutra/run").exists());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left behind");
    }
    assert_eq!(text(&sandbox.run(&["down"]).stdout), "nothing runs\n");
}

#[test]
fn services_of_a_supervisor_that_was_killed_end_with_down() {
    let sandbox = Sandbox::new();
    let (_, up) = up_detached(&sandbox, |_| {}, &BALANCED);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let pids = pids(&sandbox);
    let state: Value =
        serde_json::from_slice(&fs::read(sandbox.path(".sutra/run/state.json")).unwrap()).unwrap();
    let supervisor = state["supervisor"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &supervisor]).status().unwrap().success());
    let down = sandbox.run(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    // Whoever is their parent now may not have reaped them yet.
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{pid} is left behind: {stat}");
    }
}

#[test]
fn services_get_their_variables_and_those_of_the_caller() {
    let sandbox = Sandbox::new();
    let (port, up) = up_detached(&sandbox, |_| {}, &BALANCED);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
    sandbox.has("cache-shard", &format!("STORAGE_PORT={}", port + 2));
    sandbox.has("cache-shard", &format!("STORAGE_PATH={}", sandbox.path(".sutra/cache").display()));
    for (replica, offset) in [("ml-base-1", 4), ("ml-base-2", 5)] {
        sandbox.has(replica, &format!("ML_BASE_PORT={}", port + offset));
        sandbox.has(replica, "MODEL_NAME=medium");
        sandbox.has(replica, &format!("INSTANCE_ID={replica}"));
        sandbox.has(replica, &format!("ML_BASE_MODEL_STORE={}", sandbox.path(".sutra/models").display()));
    }
    let cores = thread::available_parallelism().unwrap().get();
    let threads = ["ml-base-1", "ml-base-2"].map(|replica| {
        let env = sandbox.env(replica);
        env.lines().find_map(|line| line.strip_prefix("WORKER_THREADS=")).unwrap().parse::<usize>().unwrap()
    });
    assert_eq!(threads.iter().sum::<usize>(), cores.max(2));
    sandbox.has("haproxy", &format!("ML_BASE_LB_BIND={}", at(1)));
    sandbox.has("haproxy", &format!("ML_BASE_LB_STATS=ipv4@{}", at(3)));
    sandbox.has("haproxy", "ML_BASE_LB_MAXCONN=32");
    sandbox.has("haproxy", &format!("ML_BASE_1={}", at(4)));
    sandbox.has("haproxy", &format!("ML_BASE_2={}", at(5)));
    let configuration = sandbox.path("haproxy/ml-base-lb.cfg");
    let args = fs::read_to_string(sandbox.path("haproxy.args")).unwrap();
    assert_eq!(args, format!("-W -db -f {}\n", configuration.display()));
    sandbox.has("embedding-single", &format!("EMBEDDING_PORT={port}"));
    sandbox.has("embedding-single", &format!("ML_BASE_URL=http://{}", at(1)));
    sandbox.has("embedding-single", "SUTRA_CACHE_ENABLED=true");
    sandbox.has("embedding-single", "SUTRA_CACHE_HOST=127.0.0.1");
    sandbox.has("embedding-single", &format!("SUTRA_CACHE_PORT={}", port + 2));
    sandbox.has("embedding-single", "EMBEDDING_ML_BASE_CALLS_MAX=64");
    for (_, service) in BALANCED {
        sandbox.has(service, "OF_THE_CALLER=passed on");
    }
}

#[test]
fn choices_of_the_caller_reach_the_services() {
    let sandbox = Sandbox::new();
    let choices = |up: &mut Command| {
        up.env("WORKER_THREADS", "7").env("SUTRA_EDITION", "simple").env("STORAGE_PATH", "/nowhere/vectors");
    };
    let (_, up) = up_detached(&sandbox, choices, &BALANCED);
    assert!(up.status.success(), "{}", text(&up.stderr));
    sandbox.has("ml-base-2", "WORKER_THREADS=7");
    sandbox.has("haproxy", "ML_BASE_LB_MAXCONN=8");
    sandbox.has("cache-shard", "STORAGE_PATH=/nowhere/vectors");
    assert!(text(&up.stdout).contains("/nowhere/vectors"), "{}", text(&up.stdout));
}

#[test]
fn one_replica_runs_on_the_front_port_without_haproxy() {
    let sandbox = Sandbox::new();
    let without = |up: &mut Command| {
        up.env(HAPROXY, "none");
    };
    let (port, up) = up_detached(&sandbox, without, &UNBALANCED);
    assert!(up.status.success(), "{}", text(&up.stderr));
    sandbox.has("ml-base-1", &format!("ML_BASE_PORT={}", port + 1));
    sandbox.has("embedding-single", &format!("ML_BASE_URL=http://127.0.0.1:{}", port + 1));
    assert_eq!(pids(&sandbox).len(), UNBALANCED.len());
    assert!(!sandbox.path("haproxy.env").exists());
}

#[test]
fn two_replicas_without_haproxy_are_refused_before_anything_is_built() {
    let sandbox = Sandbox::new();
    let up = sandbox.xtask(&["up", "--replicas", "2"]).env(HAPROXY, "none").output().unwrap();
    assert_eq!(up.status.code(), Some(2));
    assert!(text(&up.stderr).contains("--replicas 2 needs HAProxy"), "{}", text(&up.stderr));
    let up = sandbox.xtask(&["up"]).env(HAPROXY, sandbox.path("absent")).output().unwrap();
    assert_eq!(up.status.code(), Some(2));
    assert!(text(&up.stderr).contains("/absent"), "{}", text(&up.stderr));
    assert!(!sandbox.path("built").exists());
}

#[test]
fn taken_port_is_refused_before_anything_is_built() {
    let sandbox = Sandbox::new();
    let first = free_row();
    let port = first + 4;
    let _holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let up = sandbox.run(&["up", "--ports-from", &first.to_string()]);
    let said = text(&up.stderr);
    assert_eq!(up.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("port {port} for ml-base-1 is taken by ")), "{said}");
    assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    assert!(!sandbox.path("built").exists());
}

#[test]
fn embed_without_a_grid_says_how_to_start_one() {
    let sandbox = Sandbox::new();
    let embed = sandbox.run(&["embed", "--file", "texts.txt"]);
    assert_eq!(embed.status.code(), Some(1));
    assert!(text(&embed.stderr).contains("cargo xtask up"), "{}", text(&embed.stderr));
    assert!(!sandbox.path("built").exists());
}

#[test]
fn help_of_embed_comes_from_embed_file() {
    let sandbox = Sandbox::new();
    assert_eq!(text(&sandbox.run(&["embed", "--help"]).stdout), "--help\n");
}

#[test]
fn accuracy_of_a_class_gets_the_model_first() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("go-on"), "\n").unwrap();
    let accuracy = sandbox.run(&["accuracy", "--candidate", "int8", "--model=small"]);
    let expected = "--candidate int8 --model=small\nmodels in /.sutra/models\n";
    assert_eq!(text(&accuracy.stdout), expected, "{accuracy:?}");
    assert_eq!(fs::read_to_string(sandbox.path("fetching")).unwrap(), "small\n");
}

#[test]
fn accuracy_of_running_servers_needs_no_model() {
    let sandbox = Sandbox::new();
    let arguments = ["accuracy", "--candidate", "http://a:1", "--reference", "http://b:2", "--json"];
    let accuracy = sandbox.run(&arguments);
    assert!(text(&accuracy.stdout).starts_with(&arguments[1..].join(" ")), "{accuracy:?}");
    assert!(!sandbox.path("fetching").exists());
}

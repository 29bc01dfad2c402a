//! `cargo xtask status` as a user starts it, on sockets of this test in place of the services.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Nobody can listen there.
const CLOSED: u16 = 0;

const PROXY_METRICS: &str = "\
embedding_single_requests_total{path=\"/embed\",status=\"200\"} 995
embedding_single_requests_total{path=\"/embed\",status=\"503\"} 5
embedding_single_request_duration_seconds_bucket{le=\"0.1\"} 1000
embedding_single_request_duration_seconds_bucket{le=\"+Inf\"} 1000
embedding_single_requests_in_flight 3
";

const STATS: &str = "\
Name: HAProxy
Version: 2.6.12

# pxname,svname,scur,stot,status,type,rtime,
clients,FRONTEND,1,99,OPEN,0,,
ml_base,ml1,2,90,UP,2,14,
ml_base,ml2,0,9,DOWN,2,3,

";

/// Answers every request on a port of its own by its path, until the test ends. The port.
fn serve(answers: &'static [(&'static str, &'static str)]) -> u16 {
    serve_with(move |request| {
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let answer = answers.iter().find(|(known, _)| *known == path);
        let (status, body) = answer.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", *body));
        format!("HTTP/1.0 {status}\r\n\r\n{body}")
    })
}

fn serve_with(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer(&String::from_utf8_lossy(&request[..length])).as_bytes()).unwrap();
        }
    });
    port
}

/// A workspace whose state file says that this test is the supervisor and every service.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn with_services(services: Vec<Value>) -> Self {
        Self::with_balancer(services, &Value::Null)
    }

    fn with_balancer(services: Vec<Value>, balancer: &Value) -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        let run = sandbox.folder.path().join(".sutra/run");
        fs::create_dir_all(&run).unwrap();
        let state = json!({ "supervisor": this_process(), "model": "medium", "services": services, "balancer": balancer });
        fs::write(run.join("state.json"), state.to_string()).unwrap();
        sandbox
    }

    fn status(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("status")
            .args(args)
            .env("CARGO_MANIFEST_DIR", self.folder.path().join("xtask"))
            .env_remove("API_KEY")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn this_process() -> Value {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let start: u64 = after_name.split_whitespace().nth(19).unwrap().parse().unwrap();
    json!({ "pid": std::process::id(), "start_ticks": start })
}

fn service(name: &str, port: u16) -> Value {
    json!({ "name": name, "process": this_process(), "port": port, "started_unix_s": 0, "restarts": 1, "log": "x" })
}

fn balancer(stats_port: u16) -> Value {
    json!({ "stats_port": stats_port, "admin_socket": "x.sock" })
}

fn embedding_single() -> u16 {
    serve(&[
        ("/health", r#"{"status": "ready", "version": "1.2.3"}"#),
        (
            "/info",
            r#"{"models": [{"id": "org/m", "identity": "abcd", "width": 384}], "limits": {"requests_max": 512}}"#,
        ),
        ("/cache/stats", r#"{"l1": {"size": 9, "hits": 8, "misses": 2}, "total": {"hits": 8, "misses": 2}}"#),
        ("/metrics", PROXY_METRICS),
    ])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

#[test]
fn grid_that_is_well_is_shown_and_exits_with_0() {
    let shard = serve(&[
        ("/health", r#"{"status": "ready", "degraded": null}"#),
        ("/info", r#"{"entries": 7, "bytes": 4096, "segments": 2, "degraded": null}"#),
    ]);
    let grid = [service("cache-shard", shard), service("embedding-single", embedding_single())];
    let sandbox = Sandbox::with_services(grid.to_vec());
    let status = sandbox.status(&[]);
    let said = text(&status.stdout);
    assert_eq!(status.status.code(), Some(0), "{said}{}", text(&status.stderr));
    assert_eq!(said.matches(" ready ").count(), 2, "{said}");
    assert!(said.contains(" 2/512 "), "{said}");
    assert!(said.lines().any(|line| line.starts_with("L1 ") && line.ends_with(" 80.0 %")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("shard ") && line.ends_with(" segments: 2")), "{said}");

    let report = json_of(&sandbox.status(&["--json"]));
    assert_eq!((&report["running"], &report["ready"]), (&json!(true), &json!(true)));
    let proxy = &report["services"][1];
    assert_eq!((&proxy["name"], &proxy["version"]), (&json!("embedding-single"), &json!("1.2.3")));
    assert_eq!((&proxy["load"]["in_flight"], &proxy["load"]["permits_max"]), (&json!(2), &json!(512)));
    assert!(proxy["usage"]["memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(report["models"][0]["id"], "org/m");
    assert_eq!(report["cache"]["l1"]["size"], 9);
    assert_eq!(report["objectives"], Value::Null);
}

#[test]
fn service_that_accepts_and_never_answers_is_a_row() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut waiting = service("ml-base-3", CLOSED);
    waiting["process"] = Value::Null;
    let grid = vec![
        service("ml-base-1", silent.local_addr().unwrap().port()),
        service("ml-base-2", CLOSED),
        waiting,
        service("embedding-single", embedding_single()),
    ];
    let status = Sandbox::with_services(grid).status(&["--json"]);
    assert_eq!(status.status.code(), Some(1));
    let report = json_of(&status);
    let states: Vec<&str> = report["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["no answer", "no answer", "restarting", "ready"]);
    assert_eq!(report["ready"], false);
}

#[test]
fn slot_that_is_down_is_shown_and_fails() {
    let stats = serve_with(|question| {
        assert_eq!(question, "show info; show stat\n");
        STATS.to_owned()
    });
    let haproxy =
        service("haproxy", serve(&[("/health", r#"{"status": "ready", "version": "of a replica"}"#)]));
    let sandbox = Sandbox::with_balancer(vec![haproxy], &balancer(stats));
    let status = sandbox.status(&[]);
    let said = text(&status.stdout);
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("ml_base/ml2  DOWN ")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("haproxy  ready  2.6.12 ")), "{said}");
    assert_eq!(json_of(&sandbox.status(&["--json"]))["balancer"]["slots"][0]["response_time_ms"], 14);
}

#[test]
fn balancer_without_statistics_is_said_and_no_failure() {
    let haproxy = service("haproxy", serve(&[("/health", r#"{"status": "ready"}"#)]));
    for balancer in [balancer(CLOSED), Value::Null] {
        let status = Sandbox::with_balancer(vec![haproxy.clone()], &balancer).status(&[]);
        let said = text(&status.stdout);
        assert_eq!(status.status.code(), Some(0), "{said}");
        assert!(said.contains("note: ") && said.contains("stats socket"), "{said}");
    }
}

#[test]
fn missed_objective_fails_only_where_it_was_asked_for() {
    let sandbox = Sandbox::with_services(vec![service("embedding-single", embedding_single())]);
    assert_eq!(sandbox.status(&[]).status.code(), Some(0));
    let status = sandbox.status(&["--slo", "--json"]);
    assert_eq!(status.status.code(), Some(1));
    let report = json_of(&status);
    let objectives = report["objectives"].as_array().unwrap();
    let verdict = |name: &str| {
        let objective = objectives.iter().find(|objective| objective["name"] == name).unwrap();
        objective["verdict"].as_str().unwrap().to_owned()
    };
    // 5 of 1000 requests failed; all took less than 0.1 s; 8 of 10 texts were cached.
    assert_eq!(verdict("availability"), "missed");
    assert_eq!(verdict("latency_p95"), "met");
    assert_eq!(verdict("hit_rate"), "met");
    let said = text(&sandbox.status(&["--slo"]).stdout);
    assert!(
        said.lines().any(|line| line.starts_with("availability ") && line.contains(" 99.500 %  missed ")),
        "{said}"
    );
}

#[test]
fn key_that_is_missing_is_said() {
    let port = serve_with(|request| match request.split_whitespace().nth(1) {
        Some("/health") => "HTTP/1.0 200 OK\r\n\r\n{\"status\": \"ready\"}".to_owned(),
        _ => "HTTP/1.0 401 Unauthorized\r\n\r\n{}".to_owned(),
    });
    let status = Sandbox::with_services(vec![service("embedding-single", port)]).status(&[]);
    let said = text(&status.stdout);
    assert_eq!(status.status.code(), Some(0), "{said}");
    assert!(said.contains("GET /cache/stats with 401: set API_KEY"), "{said}");
}

#[test]
fn nothing_running_exits_with_3() {
    let sandbox = Sandbox { folder: tempfile::tempdir().unwrap() };
    let status = sandbox.status(&[]);
    assert_eq!(status.status.code(), Some(3));
    assert_eq!(text(&status.stdout), "nothing runs; start it with `cargo xtask up`\n");
    let status = sandbox.status(&["--json", "--slo"]);
    assert_eq!((status.status.code(), &json_of(&status)["running"]), (Some(3), &json!(false)));
}

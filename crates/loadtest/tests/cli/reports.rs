//! What is reported: errors by kind, timeouts as latency, memory, and refusals to start.

use std::future::pending;

use crate::{
    load,
    server::{FakeServer, refusal, vectors},
};

#[tokio::test]
async fn errors_are_counted_by_status_and_code_and_fail_the_run() {
    let server = FakeServer::start(async |_| refusal(429, "overloaded")).await;
    let ran = load(&server.url, &["--json"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.report()["errors"]["429 overloaded"], server.asked().len());
    assert_eq!(ran.report()["requests"], 0);
}

#[tokio::test]
async fn answer_with_too_few_vectors_is_an_error() {
    let server = FakeServer::start(async |texts| vectors(texts - 1, 0)).await;
    let ran = load(&server.url, &["--json", "--texts-per-request", "2"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.report()["errors"]["200 with a wrong number of vectors"], server.asked().len());
}

#[tokio::test]
async fn timeout_counts_with_its_length() {
    let server = FakeServer::start(async |_| pending().await).await;
    let ran = load(&server.url, &["--json", "--timeout-seconds", "0.5"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.report()["errors"]["timeout"], 3, "one for each client");
    assert!(ran.report()["latency_ms"]["p50"].as_f64().unwrap() >= 499.0, "{}", ran.stdout);
}

#[tokio::test]
async fn table_names_the_method_and_the_memory() {
    let server = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let pid = std::process::id().to_string();
    let ran = load(&server.url, &["--server-pid", &pid]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for expected in ["texts/s", "p95 ms", "peak MiB", &pid, "closed loop: 3 clients", "share"] {
        assert!(ran.stdout.contains(expected), "`{expected}` is missing in\n{}", ran.stdout);
    }
}

#[tokio::test]
async fn run_that_cannot_start_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ran = load(&url, &[]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains(&url) && ran.stderr.contains("cargo xtask up"), "{}", ran.stderr);
    let ran = load("http://192.0.2.1:8888", &[]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--allow-remote"), "{}", ran.stderr);
}

#[tokio::test]
async fn filling_the_caches_must_succeed() {
    let server = FakeServer::start(async |_| refusal(503, "unavailable")).await;
    let ran = load(&server.url, &["--workload", "repeat"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("filling the caches failed: 503 unavailable"), "{}", ran.stderr);
}

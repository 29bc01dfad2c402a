//! The program as it is started: what it prints, and how it ends.

use std::process::{Command, Output};

use serde_json::Value;

fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_embedding-single"))
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the program should start")
}

#[test]
fn print_config_shows_what_is_in_force_without_secrets() {
    let variables = [("EMBEDDING_CACHE_SIZE", "7"), ("SUTRA_EDITION", "simple"), ("API_KEY", "hunter2")];
    let output = start(&["--print-config", "--cache-ttl", "60"], &variables);
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(config["cache"]["entries_max"], 7);
    assert_eq!(config["cache"]["ttl_seconds"], 60.0);
    assert_eq!(config["requests"]["texts_max"], 64);
    assert_eq!((&config["edition"], &config["api_key"]), (&"simple".into(), &"***".into()));
}

#[test]
fn a_wrong_configuration_is_refused_with_every_mistake_on_stderr() {
    let output = start(&["--ml-base-url", "ftp://nowhere", "--requests-max", "0"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("--ml-base-url: ") && message.contains("--requests-max: "), "{message}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = start(&["--port", &port], &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{message}");
}

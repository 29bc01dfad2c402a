//! Which crate may depend on which, and who may ask for what is for tests alone.
//!
//! ```text
//! embedding-single ──▶ protocol, service, vector       service ──▶ protocol
//! cache-shard ───────▶ protocol, service
//! both of them ──────▶ interleaving, in their unit tests
//! ml-base ───────────▶ protocol, service, vector, engine
//! engine ────────────▶ kernels
//! cache-bench ───────▶ protocol, embedding-single
//! engine-bench ──────▶ engine, kernels
//! accuracy ──────────▶ protocol, vector, api-key
//! embed-file, loadtest ▶ api-key
//! cache-admin ───────▶ protocol, vector
//! engine, kernels, vector: no network, no async         services never depend on each other
//! ```

use anyhow::{Context, Result};
use serde_json::Value;

use super::Violation;

/// What each crate of the workspace may depend on among its own.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("embedding-single", &["interleaving", "protocol", "service", "vector"]),
    ("cache-shard", &["interleaving", "protocol", "service"]),
    ("ml-base", &["engine", "protocol", "service", "vector"]),
    ("engine", &["kernels"]),
    ("kernels", &[]),
    ("vector", &[]),
    ("protocol", &[]),
    ("service", &["protocol"]),
    ("interleaving", &[]),
    ("api-key", &[]),
    ("embed-file", &["api-key"]),
    ("cache-admin", &["protocol", "vector"]),
    ("loadtest", &["api-key"]),
    ("cache-bench", &["embedding-single", "protocol", "service"]),
    ("engine-bench", &["engine", "kernels"]),
    ("accuracy", &["api-key", "protocol", "vector"]),
    ("e2e", &["cache-shard", "embedding-single", "engine", "ml-base", "protocol", "service", "vector"]),
    ("xtask", &[]),
];

/// Crates that compute and nothing else.
const PURE: [&str; 3] = ["engine", "kernels", "vector"];
/// What a pure crate must not know.
const NETWORK: [&str; 4] = ["axum", "hyper", "tokio", "tonic"];

/// Crates that stay light because every command waits for them to compile.
const LIGHT: [&str; 1] = ["xtask"];
/// What a light crate must not pull in.
const HEAVY: [&str; 5] = ["axum", "candle-core", "indicatif", "tokio", "tonic"];

/// Features that change what a program is, for its tests.
const OF_TESTS: [&str; 1] = ["software-tiles"];

/// Checks what `cargo metadata --no-deps` says.
pub(super) fn check(metadata: &Value) -> Result<Vec<Violation>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let own: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    Ok(packages.iter().flat_map(|package| check_package(package, &own)).collect())
}

fn check_package(package: &Value, own: &[&str]) -> Vec<Violation> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return vec![violation(
            name,
            "a crate without arrows",
            "a line in ALLOWED of xtask/src/tidy/arrows.rs",
        )];
    };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let checked = dependencies.flat_map(|dependency| {
        let arrow = dependency["name"].as_str().and_then(|to| check_arrow(name, to, allowed, own));
        arrow.into_iter().chain(check_features(name, dependency))
    });
    checked.collect()
}

fn check_features(name: &str, dependency: &Value) -> Option<Violation> {
    let features = dependency["features"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let of_tests = features.filter(|feature| OF_TESTS.contains(feature)).collect::<Vec<_>>();
    let is_shipped = dependency["kind"] != "dev" && !of_tests.is_empty();
    let found = || format!("asks for {} outside dev-dependencies", of_tests.join(", "));
    is_shipped.then(|| violation(name, found(), "a feature for tests alone"))
}

fn check_arrow(name: &str, dependency: &str, allowed: &[&str], own: &[&str]) -> Option<Violation> {
    let found = format!("depends on {dependency}");
    // Tests of a crate may ask for a feature of its own.
    if own.contains(&dependency) && dependency != name && !allowed.contains(&dependency) {
        let limit = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
        Some(violation(name, found, limit))
    } else if PURE.contains(&name) && NETWORK.contains(&dependency) {
        Some(violation(name, found, "no network and no async here"))
    } else if LIGHT.contains(&name) && HEAVY.contains(&dependency) {
        Some(violation(name, found, "light dependencies: heavy work lives in a binary of its own"))
    } else {
        None
    }
}

fn violation(name: &str, found: impl Into<String>, limit: impl Into<String>) -> Violation {
    let folder = if name == "xtask" { String::new() } else { "crates/".to_owned() };
    Violation::new(&format!("{folder}{name}/Cargo.toml"), found, limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn broken(name: &str, dependency: &str) -> Vec<String> {
        broken_by(name, json!({ "name": dependency }))
    }

    fn broken_by(name: &str, dependency: Value) -> Vec<String> {
        let package = |name: &str, dependencies: Value| json!({ "name": name, "dependencies": dependencies });
        let mut packages: Vec<Value> = ALLOWED
            .iter()
            .filter(|(known, _)| *known != name)
            .map(|(known, _)| package(known, json!([])))
            .collect();
        packages.push(package(name, json!([dependency])));
        check(&json!({ "packages": packages })).unwrap().iter().map(Violation::to_string).collect()
    }

    #[test]
    fn arrows_of_the_table_pass() {
        for (name, allowed) in ALLOWED {
            for dependency in allowed {
                assert!(broken(name, dependency).is_empty(), "{name} -> {dependency}");
            }
        }
        assert!(broken("ml-base", "tokio").is_empty());
    }

    #[test]
    fn services_do_not_depend_on_each_other() {
        let expected = "crates/embedding-single/Cargo.toml: depends on ml-base; limit: interleaving, protocol, service, vector";
        assert_eq!(broken("embedding-single", "ml-base"), [expected]);
        assert_eq!(broken("ml-base", "embedding-single").len(), 1);
    }

    #[test]
    fn pure_crates_know_no_network() {
        for (name, dependency) in [("engine", "tokio"), ("vector", "hyper"), ("vector", "protocol")] {
            assert_eq!(broken(name, dependency).len(), 1, "{name} -> {dependency}");
        }
    }

    #[test]
    fn feature_for_tests_is_asked_for_by_tests_alone() {
        let asks = |kind: Value| json!({ "name": "kernels", "kind": kind, "features": ["software-tiles"] });
        assert!(broken_by("engine", asks(json!("dev"))).is_empty());
        assert!(broken_by("kernels", asks(json!("dev"))).is_empty());
        let expected = "crates/engine/Cargo.toml: asks for software-tiles outside dev-dependencies; limit: a feature for tests alone";
        assert_eq!(broken_by("engine", asks(Value::Null)), [expected]);
    }

    #[test]
    fn xtask_stays_light() {
        assert_eq!(broken("xtask", "tokio").len(), 1);
    }

    #[test]
    fn unknown_crate_is_refused_until_it_has_a_line() {
        assert_eq!(broken("grid-events", "protocol").len(), 1);
    }

    #[test]
    fn no_service_is_allowed_in_a_library() {
        // Neither is linked into anything: one tests services, the other measures the L1 that runs in one.
        let ends = ["cache-bench", "e2e"];
        for (name, allowed) in ALLOWED.iter().filter(|(name, _)| !ends.contains(name)) {
            let services = ["embedding-single", "cache-shard", "ml-base"];
            assert!(!allowed.iter().any(|crate_name| services.contains(crate_name)), "{name}");
        }
    }
}

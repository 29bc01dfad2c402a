//! The main part: cache-shard alone, as the peers are not everywhere.

use std::{io::Write, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::{command, run, text};

const SMALL: [&str; 8] =
    ["--entries", "500", "--seconds", "0.05", "--rounds", "1", "--restart-entries", "600"];

#[tokio::test]
async fn every_load_is_measured_every_vector_is_right_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[SMALL.as_slice(), &["--bounded-mib", "1", "--json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let speeds = report["speeds"].as_array().unwrap();
    let loads: Vec<_> =
        speeds.iter().map(|row| (row["hits_percent"].as_u64(), row["batch"].as_u64())).collect();
    let expected = [(90, 1), (90, 16), (90, 64), (99, 1), (99, 16), (99, 64)];
    assert_eq!(loads, expected.map(|(hits, batch)| (Some(hits), Some(batch))));
    // On a busy machine a turn may be a few requests long: all that is sure is that most keys are there.
    for row in speeds {
        assert!(row["hit_ratio"].as_f64().unwrap() > 0.3, "{row}");
    }
    let footprint = &report["footprints"][0];
    assert_eq!(
        (&footprint["restarts"]["kept"], &footprint["restarts"]["entries"]),
        (&true.into(), &600.into())
    );
    let hit_ratio = footprint["bounded"]["hit_ratio"].as_f64().unwrap();
    assert!(0.1 < hit_ratio && hit_ratio < 1.0, "{footprint}");
    assert_eq!(report["wrong_vectors"], 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn peers_are_measured_with_ours_where_they_are_installed() {
    if !["redis-server", "memcached"].into_iter().all(is_installed) {
        skip(
            "peers_are_measured_with_ours_where_they_are_installed",
            "redis-server or memcached is not installed",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        folder.path(),
        &[SMALL.as_slice(), &["--bounded-mib", "8", "--json", "--peers", "--no-install"]].concat(),
    )
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let footprints = report["footprints"].as_array().unwrap();
    let kept = footprints.iter().map(|row| (row["engine"].as_str(), row["restarts"]["kept"].as_bool()));
    let expected = [("cache-shard", true), ("redis", true), ("memcached", false)];
    assert_eq!(kept.collect::<Vec<_>>(), expected.map(|(engine, kept)| (Some(engine), Some(kept))));
    assert_eq!(report["speeds"].as_array().unwrap().len(), 18);
    assert!(report["targets"].as_array().unwrap().len() >= 2, "{}", report["targets"]);
}

#[tokio::test]
async fn whoever_stops_it_ends_the_engine_too() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--entries", "1000", "--seconds", "600", "--restart-entries", "0", "--bounded-mib", "0"];
    let mut bench = command(folder.path(), &arguments).spawn().unwrap();
    let mut lines = BufReader::new(bench.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("it says what it does").contains("90 % hits") {}
    let shard = child_of(bench.id().unwrap());
    let pid = Pid::from_raw(i32::try_from(bench.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(bench.wait().await.unwrap().code(), Some(130));
    // It was killed before its parent ended, but a busy machine may be a moment later with it.
    let ended = async {
        while is_alive(shard) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), ended)
        .await
        .unwrap_or_else(|_| panic!("cache-shard {shard} still runs"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_flag_that_means_nothing_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--no-install"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("cache-bench: `--no-install`"), "{}", text(&output.stderr));
}

fn child_of(pid: u32) -> u32 {
    // A thread of the bench starts it, so the children of its first thread are not all.
    let child = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let id: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
        (parent == pid).then_some(id)
    });
    child.expect("cache-shard runs")
}

/// A process that was killed and not waited for yet is none that runs.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn is_installed(program: &str) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    folders.into_iter().any(|folder| Path::new(folder).join(program).is_file())
}

/// Says why a test does not run, on standard error and as a line of the file `SUTRA_SKIP_LOG`.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn skip(name: &str, reason: &str) {
    let skipped = format!("cache-bench::{name}: {reason}\n");
    if let Ok(log) = std::env::var("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

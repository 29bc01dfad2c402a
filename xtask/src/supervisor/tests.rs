//! The supervisor on shell scripts in place of services.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::process::ProcessIdentity;

/// Long enough that a test never meets it.
const NEVER: Duration = Duration::from_secs(300);

/// Ends when it is asked to; says in FILE that it can be asked.
const POLITE: &str = "trap 'exit 0' TERM; touch \"$FILE\"; while :; do sleep 0.05; done";
/// Cannot be asked to end.
const STUBBORN: &str = "trap '' TERM; touch \"$FILE\"; while :; do sleep 600; done";

fn limits() -> Limits {
    let restart = RestartPolicy {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(4),
        reset_after: NEVER,
    };
    Limits { ready_timeout: NEVER, drain_timeout: NEVER, restart }
}

fn ready_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.ready"))
}

fn shell(folder: &TempDir, name: &str, script: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("FILE".to_owned(), ready_file(folder.path(), name).into())],
        env_removed: Vec::new(),
        log: folder.path().join(format!("{name}.log")),
        port: 0,
    }
}

/// Ready once the script has made its file.
fn probe(folder: &TempDir) -> impl FnMut(&ServiceSpec) -> Probe {
    let folder = folder.path().to_owned();
    move |spec| match ready_file(&folder, &spec.name).exists() {
        true => Probe::Ready,
        false => Probe::NotYet("starting".to_owned()),
    }
}

fn observed(specs: Vec<ServiceSpec>, limits: Limits) -> (Supervisor<'static>, Receiver<Notice>) {
    let (sender, notices) = channel();
    // A test that has seen enough drops its end.
    let supervisor = Supervisor::new(specs, limits, move |notice| drop(sender.send(notice.clone())));
    (supervisor, notices)
}

/// Every notice so far but those of the wait, as `word service`.
fn words(notices: &Receiver<Notice>) -> Vec<String> {
    let word = |notice| match notice {
        Notice::Started { service, .. } => Some(format!("started {service}")),
        Notice::WaitingFor { .. } => None,
        Notice::Died { service, .. } => Some(format!("died {service}")),
        Notice::Draining { service } => Some(format!("draining {service}")),
        Notice::Killed { service } => Some(format!("killed {service}")),
        Notice::Stopped { service, .. } => Some(format!("stopped {service}")),
    };
    notices.try_iter().filter_map(word).collect()
}

#[test]
fn services_start_in_order_and_drain_in_reverse() {
    let folder = tempfile::tempdir().unwrap();
    let specs = vec![shell(&folder, "first", POLITE), shell(&folder, "second", POLITE)];
    let (mut supervisor, notices) = observed(specs, limits());
    supervisor.start().unwrap();
    assert_eq!(supervisor.wait_ready(probe(&folder)).unwrap(), Readiness::Ready);
    supervisor.stop_handle().request();
    supervisor.watch();
    supervisor.drain();
    let expected = [
        "started first",
        "started second",
        "draining second",
        "stopped second",
        "draining first",
        "stopped first",
    ];
    assert_eq!(words(&notices), expected);
}

#[test]
fn service_that_dies_is_started_again_after_growing_delays() {
    let folder = tempfile::tempdir().unwrap();
    let specs = vec![shell(&folder, "polite", POLITE), shell(&folder, "mortal", "exit 3")];
    let (mut supervisor, notices) = observed(specs, limits());
    let stop = supervisor.stop_handle();
    let seen = thread::spawn(move || {
        let died = |notice| match notice {
            Notice::Died { service, reason, restart_after } => {
                Some((service, reason, restart_after.as_millis()))
            }
            Notice::Started { .. }
            | Notice::WaitingFor { .. }
            | Notice::Draining { .. }
            | Notice::Killed { .. }
            | Notice::Stopped { .. } => None,
        };
        let deaths: Vec<_> = notices.iter().filter_map(died).take(4).collect();
        stop.request();
        deaths
    });
    supervisor.start().unwrap();
    supervisor.watch();
    supervisor.drain();
    let death = |delay| ("mortal".to_owned(), "exit code 3".to_owned(), delay);
    assert_eq!(seen.join().unwrap(), [death(1), death(2), death(4), death(4)]);
}

#[test]
fn service_that_is_killed_comes_back_as_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut supervisor, notices) = observed(vec![shell(&folder, "polite", POLITE)], limits());
    let stop = supervisor.stop_handle();
    let pids = thread::spawn(move || {
        let mut pids = Vec::new();
        for notice in notices {
            if let Notice::Started { pid, .. } = notice {
                pids.push(pid);
                match ProcessIdentity::of(pid) {
                    Some(process) if pids.len() == 1 => process.signal(rustix::process::Signal::KILL),
                    Some(_) | None => stop.request(),
                }
            }
        }
        pids
    });
    supervisor.start().unwrap();
    supervisor.watch();
    supervisor.drain();
    drop(supervisor);
    let pids = pids.join().unwrap();
    assert_eq!(pids.len(), 2);
    assert_ne!(pids[0], pids[1]);
}

#[test]
fn service_that_does_not_end_in_time_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..limits() };
    let (mut supervisor, notices) = observed(vec![shell(&folder, "stubborn", STUBBORN)], limits);
    supervisor.start().unwrap();
    supervisor.wait_ready(probe(&folder)).unwrap();
    supervisor.drain();
    assert_eq!(
        words(&notices),
        ["started stubborn", "draining stubborn", "killed stubborn", "stopped stubborn"]
    );
}

#[test]
fn second_request_kills_every_service_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let specs = vec![shell(&folder, "polite", POLITE), shell(&folder, "stubborn", STUBBORN)];
    let (mut supervisor, notices) = observed(specs, limits());
    supervisor.start().unwrap();
    supervisor.wait_ready(probe(&folder)).unwrap();
    let stop = supervisor.stop_handle();
    stop.request();
    stop.request();
    supervisor.watch();
    supervisor.drain();
    let words = words(&notices);
    assert!(words.contains(&"killed stubborn".to_owned()), "{words:?}");
    assert!(words.contains(&"killed polite".to_owned()), "{words:?}");
    assert!(!words.contains(&"draining polite".to_owned()), "{words:?}");
}

#[test]
fn service_that_ends_while_it_starts_is_named_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let specs =
        vec![shell(&folder, "good", POLITE), shell(&folder, "broken", "echo bad configuration; exit 7")];
    let (mut supervisor, _notices) = observed(specs, limits());
    supervisor.start().unwrap();
    let error = supervisor.wait_ready(probe(&folder)).unwrap_err();
    assert_eq!(error.to_string(), "broken ended while it started (exit code 7)");
    assert_eq!(log::tail(&error.log, 5), ["bad configuration"]);
    supervisor.drain();
}

#[test]
fn service_that_is_not_ready_in_time_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { ready_timeout: Duration::from_millis(1), ..limits() };
    let (mut supervisor, notices) = observed(vec![shell(&folder, "slow", POLITE)], limits);
    supervisor.start().unwrap();
    let error = supervisor.wait_ready(|_| Probe::NotYet("loading".to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "slow is not ready after 1ms: loading");
    supervisor.drain();
    drop(supervisor);
    let waits = notices.iter().filter(|notice| matches!(notice, Notice::WaitingFor { .. })).count();
    assert!(waits <= 1, "a wait that does not change is said once, not {waits} times");
}

#[test]
fn stop_while_services_start_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (mut supervisor, _notices) = observed(vec![shell(&folder, "slow", POLITE)], limits());
    supervisor.start().unwrap();
    supervisor.stop_handle().request();
    let readiness = supervisor.wait_ready(|_| Probe::NotYet("loading".to_owned())).unwrap();
    assert_eq!(readiness, Readiness::StopRequested);
    supervisor.drain();
}

#[test]
fn missing_program_is_an_error_and_the_others_can_be_drained() {
    let folder = tempfile::tempdir().unwrap();
    let missing = ServiceSpec { program: folder.path().join("absent"), ..shell(&folder, "missing", "") };
    let (mut supervisor, notices) = observed(vec![shell(&folder, "first", POLITE), missing], limits());
    let error = supervisor.start().unwrap_err();
    assert!(error.to_string().starts_with("missing cannot be started: "), "{error}");
    supervisor.drain();
    assert_eq!(words(&notices), ["started first", "draining first", "stopped first"]);
}

#[test]
fn dropped_supervisor_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let (mut supervisor, notices) = observed(vec![shell(&folder, "stubborn", STUBBORN)], limits());
    supervisor.start().unwrap();
    supervisor.wait_ready(probe(&folder)).unwrap();
    drop(supervisor);
    let Some(Notice::Started { pid, .. }) = notices.iter().next() else { panic!("a process started") };
    assert_eq!(ProcessIdentity::of(pid), None);
}

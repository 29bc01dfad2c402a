//! `status`: what runs, and whether it serves.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::StatusArgs;
use crate::console;
use crate::http::{self, Answer};
use crate::state::{ServiceState, State};
use crate::up::health_word;
use crate::workspace::Workspace;

const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const READY: &str = "ready";

/// Prints the state of each service; the code is success where all are ready.
pub(crate) fn run(workspace: &Workspace, args: &StatusArgs) -> Result<ExitCode> {
    let state = State::load_running(workspace)?;
    let services: Vec<(&ServiceState, String)> =
        state.iter().flat_map(|state| &state.services).map(|service| (service, look(service))).collect();
    match (args.json, &state) {
        (true, _) => console::say(as_json(state.as_ref(), &services)),
        (false, None) => console::say("nothing runs; start it with `cargo xtask up`"),
        (false, Some(_)) => console::say(as_table(&services)),
    }
    let all_ready = state.is_some() && services.iter().all(|(_, word)| word == READY);
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(service: &ServiceState) -> String {
    match service.process {
        Some(process) if process.is_alive() => health(http::get(service.port, "/health", HEALTH_TIMEOUT)),
        Some(_) | None => "restarting".to_owned(),
    }
}

fn health(answer: Result<Answer>) -> String {
    match answer {
        Ok(answer) if answer.status == 200 => READY.to_owned(),
        Ok(answer) => health_word(&answer.body).unwrap_or_else(|| format!("HTTP {}", answer.status)),
        Err(_) => "no answer".to_owned(),
    }
}

fn as_table(services: &[(&ServiceState, String)]) -> String {
    let head = ["SERVICE", "STATE", "PID", "PORT", "UP", "RESTARTS"].map(str::to_owned).to_vec();
    let row = |(service, word): &(&ServiceState, String)| {
        vec![
            service.name.clone(),
            word.clone(),
            service.process.map_or_else(|| "-".to_owned(), |process| process.pid.to_string()),
            service.port.to_string(),
            shown(service.uptime()),
            service.restarts.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(services.iter().map(row)).collect();
    console::table(&rows)
}

/// Hours, minutes and seconds.
fn shown(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn as_json(state: Option<&State>, services: &[(&ServiceState, String)]) -> Value {
    let service = |(service, word): &(&ServiceState, String)| {
        json!({
            "name": service.name,
            "state": word,
            "pid": service.process.map(|process| process.pid),
            "port": service.port,
            "uptime_s": service.uptime().as_secs(),
            "restarts": service.restarts,
        })
    };
    json!({
        "running": state.is_some(),
        "model": state.map(|state| &state.model),
        "url": state.and_then(State::url),
        "services": services.iter().map(service).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_ready_only_with_200() {
        let answer = |status, body: &str| Ok(Answer { status, body: body.to_owned() });
        assert_eq!(health(answer(200, "{\"status\":\"ready\"}")), "ready");
        assert_eq!(health(answer(503, "{\"status\":\"loading\"}")), "loading");
        assert_eq!(health(answer(503, "")), "HTTP 503");
        assert_eq!(health(Err(anyhow::anyhow!("refused"))), "no answer");
    }

    #[test]
    fn nothing_running_is_said_and_fails() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        assert_eq!(run(&workspace, &StatusArgs { json: true }).unwrap(), ExitCode::FAILURE);
        assert_eq!(as_json(None, &[])["running"], false);
    }

    #[test]
    fn uptime_is_shown_in_hours_minutes_and_seconds() {
        assert_eq!(shown(Duration::ZERO), "0:00:00");
        assert_eq!(shown(Duration::from_secs(3 * 3600 + 61)), "3:01:01");
    }

    #[test]
    fn table_has_a_row_per_service() {
        let service = ServiceState {
            name: "ml-base".to_owned(),
            process: None,
            port: 8887,
            started_unix_s: 0,
            restarts: 2,
            log: "ml-base.log".into(),
        };
        let table = as_table(&[(&service, "restarting".to_owned())]);
        let row = table.lines().nth(1).unwrap();
        assert!(row.starts_with("ml-base  restarting  -    8887  "), "{row}");
        assert!(row.ends_with(" 2"), "{row}");
    }
}

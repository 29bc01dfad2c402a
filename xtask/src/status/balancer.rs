//! HAProxy's own view of its slots, from its stats socket.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde::Serialize;

use super::ANSWER_TIMEOUT;
use crate::socket;

/// Both answers come on one connection, which HAProxy then closes.
const QUESTION: &[u8] = b"show info; show stat\n";
/// Rows of this type are servers; others are frontends, backends and listeners.
const TYPE_SERVER: &str = "2";
const TYPE_FRONTEND: &str = "0";

/// What HAProxy says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Balancer {
    /// Its version.
    pub(super) version: Option<String>,
    /// Connections of clients at its front.
    pub(super) connections: u64,
    /// Requests at its front in the last second.
    pub(super) requests_per_s: u64,
    /// One per server.
    pub(super) slots: Vec<Slot>,
}

/// One server behind the balancer, counted since the balancer's start or reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Slot {
    /// The backend it belongs to.
    pub(super) backend: String,
    /// Its name.
    pub(super) name: String,
    /// As HAProxy says it: `UP`, `DOWN`, `UP 1/2`, `DRAIN`, `MAINT`, `no check`.
    pub(super) status: String,
    /// Requests at it now.
    pub(super) sessions: Option<u64>,
    /// The most there were at once.
    pub(super) sessions_max: Option<u64>,
    /// Requests that wait for it.
    pub(super) queue: Option<u64>,
    /// Requests it was sent.
    pub(super) total: Option<u64>,
    /// Connections that failed.
    pub(super) errors_connect: Option<u64>,
    /// Answers that broke off.
    pub(super) errors_response: Option<u64>,
    /// Answers with a status of 500 and more.
    pub(super) answers_5xx: Option<u64>,
    /// Requests that were sent to it again.
    pub(super) retries: Option<u64>,
    /// Requests that were sent to another server instead.
    pub(super) redispatches: Option<u64>,
    /// Seconds since its status changed.
    pub(super) last_change_s: Option<u64>,
    /// Average time to an answer over the last 1024 requests, milliseconds.
    pub(super) response_time_ms: Option<u64>,
}

impl Balancer {
    /// Requests at all servers.
    pub(super) fn in_flight(&self) -> u64 {
        self.slots.iter().filter_map(|slot| slot.sessions).sum()
    }
}

impl Slot {
    /// Whether it should take requests and cannot. One that somebody drained or took out is no fault.
    pub(super) fn is_down(&self) -> bool {
        self.status.starts_with("DOWN") || self.status.starts_with("NOLB")
    }
}

/// Asks the stats socket on `port` of this machine.
///
/// # Errors
/// Where nobody answers there, or not HAProxy.
pub(super) fn look(port: u16) -> Result<Balancer> {
    let answer = socket::ask(port, QUESTION, ANSWER_TIMEOUT)?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Result<Balancer> {
    let version =
        answer.lines().find_map(|line| line.strip_prefix("Version:")).map(|it| it.trim().to_owned());
    let mut table = answer.lines().skip_while(|line| !line.starts_with("# pxname"));
    let header = table.next().context("the answer has no table of statistics")?;
    let header = csv_fields(header.trim_start_matches("# "));
    let rows: Vec<Row> =
        table.take_while(|line| !line.is_empty()).map(|line| Row::new(&header, line)).collect();
    let fronts = || rows.iter().filter(|row| row.text("type") == TYPE_FRONTEND);
    Ok(Balancer {
        version,
        connections: fronts().filter_map(|row| row.count("scur")).sum(),
        requests_per_s: fronts().filter_map(|row| row.count("req_rate")).sum(),
        slots: rows.iter().filter(|row| row.text("type") == TYPE_SERVER).map(slot).collect(),
    })
}

fn slot(row: &Row) -> Slot {
    Slot {
        backend: row.text("pxname").to_owned(),
        name: row.text("svname").to_owned(),
        status: row.text("status").to_owned(),
        sessions: row.count("scur"),
        sessions_max: row.count("smax"),
        queue: row.count("qcur"),
        total: row.count("stot"),
        errors_connect: row.count("econ"),
        errors_response: row.count("eresp"),
        answers_5xx: row.count("hrsp_5xx"),
        retries: row.count("wretr"),
        redispatches: row.count("wredis"),
        last_change_s: row.count("lastchg"),
        response_time_ms: row.count("rtime"),
    }
}

/// The fields of one line by the names in the header: versions of HAProxy differ in their columns.
struct Row<'h>(HashMap<&'h str, String>);

impl<'h> Row<'h> {
    fn new(header: &'h [String], line: &str) -> Self {
        Self(header.iter().map(String::as_str).zip(csv_fields(line)).collect())
    }

    fn text(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }

    fn count(&self, column: &str) -> Option<u64> {
        self.text(column).parse().ok()
    }
}

/// The fields of one line. A quoted field may hold commas, and quotes that are written twice.
fn csv_fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns that matter, in another order than HAProxy writes them today.
    const ANSWER: &str = "\
Name: HAProxy
Version: 2.6.12-1+deb12u2
Uptime: 0d 0h00m05s

# pxname,svname,type,status,scur,smax,qcur,stot,econ,eresp,hrsp_5xx,wretr,wredis,lastchg,rtime,req_rate,last_chk,
clients,FRONTEND,0,OPEN,7,9,,120,,,,,,,,42,,
ml_base,ml1,2,UP,3,5,0,80,1,2,3,4,5,61,12,,\"Layer4 check passed, \"\"fine\"\"\",
ml_base,ml2,2,DOWN 1/2,0,5,1,40,,,,,,2,,,,
ml_base,BACKEND,1,UP,3,5,0,120,1,2,3,4,5,61,12,,,

";

    #[test]
    fn slots_are_read_by_the_names_in_the_header() {
        let balancer = parse(ANSWER).unwrap();
        assert_eq!(balancer.version.as_deref(), Some("2.6.12-1+deb12u2"));
        assert_eq!((balancer.connections, balancer.requests_per_s), (7, 42));
        assert_eq!(balancer.in_flight(), 3);
        let [up, down] = balancer.slots.as_slice() else { panic!("{balancer:?}") };
        assert_eq!((up.backend.as_str(), up.name.as_str(), up.status.as_str()), ("ml_base", "ml1", "UP"));
        let load = (up.sessions, up.sessions_max, up.queue, up.total);
        assert_eq!(load, (Some(3), Some(5), Some(0), Some(80)));
        assert_eq!((up.errors_connect, up.errors_response, up.answers_5xx), (Some(1), Some(2), Some(3)));
        assert_eq!((up.retries, up.redispatches), (Some(4), Some(5)));
        assert_eq!((up.last_change_s, up.response_time_ms), (Some(61), Some(12)));
        assert!(!up.is_down());
        assert_eq!((down.queue, down.response_time_ms), (Some(1), None));
        assert!(down.is_down());
    }

    #[test]
    fn slot_that_was_taken_out_is_no_fault() {
        for status in ["UP", "UP 1/2", "no check", "DRAIN", "MAINT", "MAINT (resolution)"] {
            let answer = ANSWER.replace("DOWN 1/2", status);
            assert!(!parse(&answer).unwrap().slots[1].is_down(), "{status}");
        }
    }

    #[test]
    fn quoted_field_may_hold_commas_and_quotes() {
        assert_eq!(csv_fields("a,\"b, \"\"c\"\"\",,d"), ["a", "b, \"c\"", "", "d"]);
        assert_eq!(csv_fields(""), [""]);
        assert_eq!(csv_fields("\"never closed, at all"), ["never closed, at all"]);
    }

    #[test]
    fn something_else_than_haproxy_is_an_error() {
        let error = parse("HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
        assert!(error.to_string().contains("no table"), "{error}");
    }
}

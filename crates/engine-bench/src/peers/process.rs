//! One peer: a process that reads a command a line and answers a line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Place;
use crate::contestant::Contestant;
use crate::texts::Order;

/// A started peer. It is stopped (SIGSTOP) whenever it has no command, so that threads that spin do not take from others' turns.
pub(crate) struct Peer {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    vectors: PathBuf,
    log: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(Value),
    Error(String),
}

impl Peer {
    /// Starts `command`.
    pub(crate) fn start(mut command: Command, name: &str, place: &Place) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = process.stdin.take().context("a peer without standard input")?;
        let answers = process.stdout.take().context("a peer without standard output")?;
        let log = place.log(name);
        let vectors = log.with_extension("f32");
        Ok(Self { process, commands, answers: BufReader::new(answers), vectors, log })
    }

    /// Finds its fastest settings; says which they are.
    pub(crate) fn search(&mut self) -> Result<String> {
        #[derive(Deserialize)]
        struct Found {
            setting: String,
        }
        Ok(serde_json::from_value::<Found>(self.ask(&json!({ "do": "search" }))?)?.setting)
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        self.signal(Signal::CONT)?;
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended; its log is {}", self.log.display());
        self.signal(Signal::STOP)?;
        match serde_json::from_str(&line).with_context(|| format!("answer `{}`", line.trim()))? {
            Answer::Done(value) => Ok(value),
            Answer::Error(error) => bail!("{error} (log: {})", self.log.display()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("a peer without a process id")?, signal)?)
    }
}

impl Contestant for Peer {
    fn run(&mut self, order: Order) -> Result<Duration> {
        debug_assert_eq!(order, Order::Sorted, "peers are given the order that is best for them");
        #[derive(Deserialize)]
        struct Ran {
            seconds: f64,
        }
        let ran: Ran = serde_json::from_value(self.ask(&json!({ "do": "run" }))?)?;
        Ok(Duration::try_from_secs_f64(ran.seconds)?)
    }

    fn query(&mut self, times: usize) -> Result<Vec<Duration>> {
        #[derive(Deserialize)]
        struct Answered {
            seconds: Vec<f64>,
        }
        let answered: Answered =
            serde_json::from_value(self.ask(&json!({ "do": "query", "times": times }))?)?;
        answered.seconds.into_iter().map(|seconds| Ok(Duration::try_from_secs_f64(seconds)?)).collect()
    }

    fn vectors(&mut self) -> Result<Vec<Vec<f32>>> {
        #[derive(Deserialize)]
        struct Written {
            width: usize,
        }
        let command = json!({ "do": "vectors", "file": self.vectors });
        let written: Written = serde_json::from_value(self.ask(&command)?)?;
        let bytes = fs::read(&self.vectors)?;
        ensure!(written.width > 0, "vectors of width 0");
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(numbers.chunks(written.width).map(<[f32]>::to_vec).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process as well. Nothing is lost: it only keeps what it computed with.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

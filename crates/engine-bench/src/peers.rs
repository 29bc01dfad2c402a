//! The peers: a Python environment for all of them, a process for each, stopped while it is not its turn.
//!
//! ```text
//!  environment: venv, pip ─▶ prepare: export the model ─▶ process × peers: search ─▶ turns: run, query, vectors
//! ```

mod environment;
mod process;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::{Pooling, TokenIds};
use serde_json::json;

use crate::texts::{Order, Texts};
use crate::turns::{Entry, Label, Side};
use environment::Environment;
use process::Peer;

/// Where the peers come from and which of them take part.
#[derive(Debug)]
pub(crate) struct Choice {
    /// Everything they write.
    pub(crate) dir: PathBuf,
    /// `scripts/peers.py`; its requirements lie beside it.
    pub(crate) script: PathBuf,
    /// The Python that makes the environment.
    pub(crate) python: PathBuf,
    /// Parts of the names of those that take part; all where there is none.
    pub(crate) names: Vec<String>,
}

/// What they compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'t> {
    /// Directory of the model.
    pub(crate) model: &'t Path,
    /// How a vector is made of the tokens.
    pub(crate) pooling: Pooling,
    /// The token ids.
    pub(crate) texts: &'t Texts,
    /// Threads of each peer.
    pub(crate) threads: NonZeroUsize,
}

/// Starts every peer of `choice` and has it search its best settings. Who fails is put into `left_out` with the reason.
///
/// # Errors
/// Where the environment cannot be made or the model has no name.
pub(crate) fn start(choice: &Choice, task: Task, left_out: &mut Vec<(String, String)>) -> Result<Vec<Entry>> {
    let environment = Environment::provide(choice)?;
    let place = Place::make(choice, task)?;
    environment.prepare(task, &place)?;
    let mut entries = Vec::new();
    for name in environment.peers()? {
        if !choice.names.is_empty() && !choice.names.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        crate::progress(&format!("peers: {name}: starts and searches its best settings"));
        match start_one(&environment, &name, task, &place) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                crate::progress(&format!("peers: {name}: {error:#}"));
                left_out.push((name, format!("{error:#}")));
            }
        }
    }
    Ok(entries)
}

fn start_one(environment: &Environment, name: &str, task: Task, place: &Place) -> Result<Entry> {
    let mut peer = Peer::start(environment.serve(name, task, place)?, name, place)?;
    let setting = peer.search()?;
    crate::progress(&format!("peers: {name}: {setting}"));
    let label = Label {
        side: Side::Peer,
        name: name.to_owned(),
        computes_with: None,
        threads: task.threads,
        setting,
    };
    Ok(Entry::new(label, &[Order::Sorted], Box::new(peer)))
}

/// Where files of a model and of a run lie.
#[derive(Debug)]
pub(crate) struct Place {
    /// What was exported of the model, kept for the next run.
    work: PathBuf,
    /// Token ids of this run.
    ids: PathBuf,
    /// A log for each peer.
    logs: PathBuf,
}

impl Place {
    /// Makes the folders and writes the token ids.
    fn make(choice: &Choice, task: Task) -> Result<Self> {
        let model = task.model.canonicalize().context("directory of the model")?;
        let name = model.file_name().context("the directory of the model has no name")?;
        let bytes = fs::metadata(model.join("model.safetensors"))?.len();
        let work = choice.dir.join(format!("models/{}-{}-{bytes}", name.display(), task.pooling));
        let logs = choice.dir.join("logs");
        fs::create_dir_all(&work)?;
        fs::create_dir_all(&logs)?;
        let texts = task.texts.in_order(Order::Arrival);
        let texts: Vec<&[u32]> = texts.into_iter().map(TokenIds::as_slice).collect();
        let ids = choice.dir.join("ids.json");
        fs::write(&ids, json!({ "texts": texts, "query": task.texts.query().as_slice() }).to_string())?;
        Ok(Self { work, ids, logs })
    }

    /// The log of the peer `name`.
    fn log(&self, name: &str) -> PathBuf {
        let word = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        self.logs.join(format!("{}.log", name.chars().map(word).collect::<String>()))
    }
}

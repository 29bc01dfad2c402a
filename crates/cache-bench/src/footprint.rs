//! What an engine takes beside time: memory and disk for each vector, and the time until it is back after it ended.

use std::{path::Path, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    drive::fill,
    engine::{Bound, Engine},
    keys::Key,
    progress::Progress,
    server::{Found, Server},
};

/// What one vector takes in a store that holds many.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PerEntry {
    /// Resident memory with all vectors less that without any, by the number of vectors.
    pub(crate) memory_bytes: f64,
    /// Blocks of all files by the number of vectors; none where it keeps no files.
    pub(crate) disk_bytes: Option<f64>,
}

/// How long an engine was away.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Restarts {
    /// Vectors that it held.
    pub(crate) entries: u64,
    /// Seconds from its start to its first right answer, after it was asked to end.
    pub(crate) asked_seconds: f64,
    /// The same after it was killed.
    pub(crate) killed_seconds: f64,
    /// Whether it came back with what it had.
    pub(crate) kept: bool,
}

/// Starts an engine and fills it.
///
/// # Errors
/// Where it cannot be started, or does not keep what it is given.
pub(crate) async fn filled(
    engine: Engine,
    program: &Path,
    place: &Path,
    entries: u64,
    most: u64,
) -> Result<(Server, PerEntry)> {
    let server = Server::start(engine, program, place, Bound::Entries(most)).await?;
    let empty_bytes = server.memory_bytes()?;
    top_up(&server, 0, entries).await?;
    let grown_bytes = server.memory_bytes()?.saturating_sub(empty_bytes);
    let disk_bytes = if engine.is_persistent() { Some(server.disk_bytes()?) } else { None };
    let by_entry = |bytes: u64| bytes as f64 / entries as f64;
    let per_entry = PerEntry { memory_bytes: by_entry(grown_bytes), disk_bytes: disk_bytes.map(by_entry) };
    Ok((server, per_entry))
}

/// Tops `server` up from `entries` to `to` vectors, then ends and starts it twice.
///
/// # Errors
/// Where it does not end or not come back.
pub(crate) async fn restarts(server: &mut Server, entries: u64, to: u64) -> Result<Restarts> {
    top_up(server, entries, to).await?;
    let key = Key::new(0);
    let _progress = Progress::wait(&format!("{} is started again, twice", server.engine.name()));
    let (asked, _) = server.restart(Signal::TERM, &key).await?;
    let (killed, found) = server.restart(Signal::KILL, &key).await?;
    Ok(Restarts {
        entries: to,
        asked_seconds: Duration::as_secs_f64(&asked),
        killed_seconds: Duration::as_secs_f64(&killed),
        kept: found == Found::Vector,
    })
}

async fn top_up(server: &Server, from: u64, to: u64) -> Result<()> {
    let count = to.saturating_sub(from);
    let progress = Progress::count(&format!("filling {} up to {to} vectors", server.engine.name()), count);
    fill(server, from, to, |keys| progress.add(keys)).await
}

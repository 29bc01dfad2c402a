//! Hit ratios at equal bytes: every engine may hold the same bytes, and is asked for four times as much.
//!
//! Keys come as a Zipf distribution of exponent 0.9; what is missing is put, and pushes out what the engine chooses.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    args::StoreConfig,
    draws::{Draws, Zipf},
    drive::{Until, drive},
    engine::{Bound, Engine},
    keys::VECTOR_BYTES,
    progress::Progress,
    server::Server,
};

/// The vectors that are asked for, by those there is room for.
const WORKING_SET: u64 = 4;
const EXPONENT: f64 = 0.9;
/// Keys asked for by the vectors of the working set: first to fill the engine, then to measure.
const FILL_ROUNDS: u64 = 2;
const MEASURED_ROUNDS: u64 = 1;
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Bounded {
    /// What it might hold, vectors alone.
    pub(crate) bytes_max: u64,
    /// Vectors that were asked for.
    pub(crate) working_set: u64,
    /// The part of keys that were there.
    pub(crate) hit_ratio: f64,
    /// Bytes given to the disk by bytes of vectors put; none where nothing is written.
    pub(crate) write_amplification: Option<f64>,
    /// Resident memory at the end, all in.
    pub(crate) memory_bytes: u64,
    /// What its files take at the end; none where it keeps no files.
    pub(crate) disk_bytes: Option<u64>,
    /// Vectors that were not those of their keys.
    pub(crate) wrong: u64,
}

/// Measures one engine.
///
/// # Errors
/// Where it cannot be started, or answers anything but vectors.
pub(crate) async fn measure(
    engine: Engine,
    program: &Path,
    config: &StoreConfig,
    place: &Path,
    bytes_max: u64,
) -> Result<Bounded> {
    let working_set = WORKING_SET * bytes_max / VECTOR_BYTES as u64;
    let name = engine.name();
    let _progress = Progress::wait(&format!(
        "{name} may hold {} MiB of {WORKING_SET} times as much, {} keys are asked for",
        bytes_max >> 20,
        (FILL_ROUNDS + MEASURED_ROUNDS) * working_set
    ));
    let zipf = Arc::new(Zipf::new(usize::try_from(working_set).context("too many vectors")?, EXPONENT));
    let server = Server::start(engine, program, place, Bound::Bytes(bytes_max)).await?;
    let clients = u64::from(config.clients);
    let turn = async |seed, rounds: u64| {
        let draws = (0..clients).map(|client| Draws::zipf(zipf.clone(), seed, client)).collect();
        drive(&server, draws, BATCH, Until::Keys((rounds * working_set).div_ceil(clients))).await
    };
    turn(config.seed, FILL_ROUNDS).await?;
    let before = server.written_bytes().ok();
    let measured = turn(!config.seed, MEASURED_ROUNDS).await?.record;
    let written = server.written_bytes().ok().zip(before).map(|(after, before)| after.saturating_sub(before));
    let put_bytes = measured.put_keys * VECTOR_BYTES as u64;
    Ok(Bounded {
        bytes_max,
        working_set,
        hit_ratio: measured.hit_ratio(),
        write_amplification: amplification(engine, written, put_bytes),
        memory_bytes: server.memory_bytes()?,
        disk_bytes: if engine.is_persistent() { Some(server.disk_bytes()?) } else { None },
        wrong: measured.wrong,
    })
}

/// Bytes given to the disk by bytes put; none of an engine that keeps no files, or where nothing was put.
pub(crate) fn amplification(engine: Engine, written_bytes: Option<u64>, put_bytes: u64) -> Option<f64> {
    let written_bytes = written_bytes.filter(|_| engine.is_persistent() && put_bytes > 0)?;
    Some(written_bytes as f64 / put_bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplification_is_only_told_of_what_writes() {
        assert_eq!(amplification(Engine::CacheShard, Some(30), 20), Some(1.5));
        assert_eq!(amplification(Engine::Memcached, Some(30), 20), None);
        assert_eq!(amplification(Engine::Redis, None, 20), None);
        assert_eq!(amplification(Engine::Redis, Some(30), 0), None);
    }
}

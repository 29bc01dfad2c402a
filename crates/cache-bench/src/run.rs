//! The phases of the main part: fill, turns, restarts, hit ratios at equal bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    args::StoreConfig,
    bounded,
    engine::{Engine, find},
    footprint::{self, PerEntry},
    install,
    report::{Footprint, Report, Setting},
    server::Server,
    turns,
};

/// An engine that takes part and where its program lies.
type Contestant = (Engine, PathBuf);

/// Measures every engine that takes part.
///
/// # Errors
/// Where one of them is not there, or answers anything but vectors.
pub(crate) async fn measure(config: &StoreConfig) -> Result<Report> {
    let contestants = contestants(config).await?;
    fs::create_dir_all(&config.directory).with_context(|| format!("make {}", config.directory.display()))?;
    let place = tempfile::Builder::new().prefix("cache-bench-").tempdir_in(&config.directory);
    let place = place.with_context(|| format!("make a folder in {}", config.directory.display()))?;
    let mut stocked = Vec::new();
    for contestant in &contestants {
        stocked.push(stock(contestant, config, place.path()).await?);
    }
    let (mut servers, mut footprints): (Vec<Server>, Vec<Footprint>) = stocked.into_iter().unzip();
    let measured = turns::measure(&servers, config).await?;
    if let Some(to) = config.restart_entries {
        for (server, footprint) in servers.iter_mut().zip(&mut footprints) {
            footprint.restarts = Some(footprint::restarts(server, config.entries, to).await?);
        }
    }
    // Each has the disk and the cores alone from here on.
    drop(servers);
    for (contestant, footprint) in contestants.iter().zip(&mut footprints) {
        footprint.bounded = bounded(contestant, config).await?;
    }
    let setting = setting(config);
    Ok(Report::new(setting, &measured, footprints))
}

async fn contestants(config: &StoreConfig) -> Result<Vec<Contestant>> {
    let ours = Engine::CacheShard;
    let program =
        find(ours.program()).context("cache-shard is not built: `cargo xtask bench cache` builds it")?;
    let mut contestants = vec![(ours, program)];
    if config.peers {
        contestants.extend(install::provide(&[Engine::Redis, Engine::Memcached], config.no_install).await?);
    }
    Ok(contestants)
}

/// The engine with its vectors, and what they take.
async fn stock(contestant: &Contestant, config: &StoreConfig, place: &Path) -> Result<(Server, Footprint)> {
    let (engine, program) = contestant;
    let most = config.restart_entries.unwrap_or(0).max(config.entries) + turns::puts_most(config);
    let (server, per_entry) = footprint::filled(*engine, program, place, config.entries, most).await?;
    let index_bytes = server.index_bytes().await?.map(|bytes| bytes as f64 / config.entries as f64);
    Ok((server, empty(*engine, per_entry, index_bytes)))
}

fn empty(engine: Engine, per_entry: PerEntry, index_bytes: Option<f64>) -> Footprint {
    Footprint { engine, per_entry, index_bytes, write_amplification: None, restarts: None, bounded: None }
}

async fn bounded((engine, program): &Contestant, config: &StoreConfig) -> Result<Option<bounded::Bounded>> {
    let Some(bytes_max) = config.bounded_bytes else { return Ok(None) };
    let place = tempfile::Builder::new().prefix("cache-bench-").tempdir_in(&config.directory)?;
    bounded::measure(*engine, program, config, place.path(), bytes_max).await.map(Some)
}

fn setting(config: &StoreConfig) -> Setting {
    Setting {
        entries: config.entries,
        clients: config.clients,
        rounds: config.rounds,
        seconds: config.length.as_secs_f64(),
        seed: config.seed,
        directory: config.directory.display().to_string(),
    }
}

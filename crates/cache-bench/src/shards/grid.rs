//! Four shards, a proxy of the first three and one of all, and an ml-base that computes what is missed.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use super::report::Event;
use crate::{
    args::ShardsConfig,
    engine::{Bound, Engine},
    server::Server,
    service::{Service, own, words},
};

const SHARDS: usize = 4;
/// After the begin of a phase: the first second shows what was before.
const EVENT_DELAY: Duration = Duration::from_secs(1);

/// Everything that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Grid {
    shards: Vec<Server>,
    of_three: Service,
    of_four: Service,
    _ml_base: Service,
    _place: TempDir,
}

impl Grid {
    /// Starts all of it.
    pub(super) async fn start(config: &ShardsConfig) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("cache-bench-").tempdir()?;
        let program = own("cache-shard")?;
        let bound = Bound::Entries(u64::try_from(config.texts)? * 2);
        let mut shards = Vec::new();
        for number in 1..=SHARDS {
            let folder = place.path().join(format!("shard-{number}"));
            shards.push(Server::start(Engine::CacheShard, &program, &folder, bound).await?);
        }
        let model: [OsString; 2] = ["--model-id".into(), config.model.clone().into()];
        let ml_base = Service::start("ml-base", "ml-base", place.path(), &model).await?;
        let arguments = |count: usize| {
            let list: Vec<_> = shards[..count].iter().map(|shard| shard.address.to_string()).collect();
            words(&[
                "--ml-base-url",
                &format!("http://{}", ml_base.address),
                "--cache-entries-max",
                "0",
                "--shards",
                &list.join(","),
                "--shard-join-window",
                &config.join_window.as_secs_f64().to_string(),
            ])
        };
        let of_three =
            Service::start("embedding-single", "three", place.path(), &arguments(SHARDS - 1)).await?;
        let of_four = Service::start("embedding-single", "four", place.path(), &arguments(SHARDS)).await?;
        Ok(Self { shards, of_three, of_four, _ml_base: ml_base, _place: place })
    }

    /// The proxy of the first three shards.
    pub(super) fn of_three(&self) -> SocketAddr {
        self.of_three.address
    }

    /// Whom clients ask in the phase of `event`.
    pub(super) fn proxy_during(&self, event: Event) -> SocketAddr {
        match event {
            Event::Nothing => self.of_three.address,
            Event::Join | Event::Loss | Event::Return => self.of_four.address,
        }
    }

    /// Makes it happen, a second after this was called. A join is that clients ask another proxy.
    pub(super) async fn cause(&mut self, event: Event) -> Result<()> {
        sleep(EVENT_DELAY).await;
        let first = self.shards.first_mut().context("there are shards")?;
        match event {
            Event::Nothing | Event::Join => Ok(()),
            Event::Loss => first.end(Signal::KILL).await,
            Event::Return => first.begin().await,
        }
    }
}

//! All that is asked: the bare handler, two proxies, the cache shard, redis, and the ml-base behind them.

use std::{ffi::OsString, fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{
    Way,
    asker::{Asker, Http},
};
use crate::{
    args::HttpConfig,
    client::Client,
    engine::{Bound, Engine},
    install,
    keys::Key,
    progress::Progress,
    server::Server,
    service::{Service, own, words},
};

/// How long it may take until what was asked for is stored.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Vectors of the caches that are asked directly.
const ENTRIES: u64 = 1000;

/// Everything that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Grid {
    l1: Service,
    l2: Service,
    caches: Vec<Server>,
    /// Asked once for each text, and then for the models it serves.
    _ml_base: Service,
    /// From the first answer on.
    bare: Option<Service>,
    place: TempDir,
}

impl Grid {
    /// Starts all but the bare handler, which needs an answer first.
    pub(super) async fn start(config: &HttpConfig) -> Result<Self> {
        let mut programs = vec![(Engine::CacheShard, own("cache-shard")?)];
        if config.store.peers {
            programs.extend(install::provide(&[Engine::Redis], config.store.no_install).await?);
        }
        fs::create_dir_all(&config.store.directory)?;
        let place = tempfile::Builder::new().prefix("cache-bench-").tempdir_in(&config.store.directory)?;
        let _progress = Progress::wait("starting ml-base, cache-shard, two of embedding-single");
        let mut caches = Vec::new();
        for (engine, program) in programs {
            caches.push(Server::start(engine, &program, place.path(), Bound::Entries(ENTRIES)).await?);
        }
        let model: [OsString; 2] = ["--model-id".into(), config.model.clone().into()];
        let ml_base = Service::start("ml-base", "ml-base", place.path(), &model).await?;
        let to_ml_base = words(&["--ml-base-url", &format!("http://{}", ml_base.address)]);
        let alone = [to_ml_base.clone(), words(&["--shard-enabled", "false"])].concat();
        let l1 = Service::start("embedding-single", "l1", place.path(), &alone).await?;
        let port = caches[0].address.port().to_string();
        let shard = words(&["--cache-entries-max", "0", "--shard-port", &port, "--shard-timeout", "10"]);
        let l2 =
            Service::start("embedding-single", "l2", place.path(), &[to_ml_base, shard].concat()).await?;
        Ok(Self { l1, l2, caches, _ml_base: ml_base, bare: None, place })
    }

    /// The ways to ask, each with `clients` clients whose answers are there.
    pub(super) async fn ways(&mut self, clients: u16) -> Result<Vec<Way>> {
        let l1 = warmed(self.l1.address, clients).await?;
        let l2 = warmed(self.l2.address, clients).await?;
        let mut ways = vec![self.bare(&l1, clients).await?];
        ways.push(Way::new("L1 hit", l1)?);
        ways.push(Way::new("L2 hit", l2)?);
        for cache in &self.caches {
            let name = match cache.engine {
                Engine::CacheShard => "GetMany of 1, no HTTP",
                Engine::Redis | Engine::Memcached => "redis GET, no HTTP",
            };
            ways.push(Way::new(name, stocked(cache, clients).await?)?);
        }
        Ok(ways)
    }

    /// The bare handler, with the answer to the first of `askers`.
    async fn bare(&mut self, askers: &[Asker], clients: u16) -> Result<Way> {
        let Some(Asker::Http { body, expected, .. }) = askers.first() else { bail!("no client asks") };
        let file = self.place.path().join("answer.json");
        fs::write(&file, expected)?;
        let flag: [OsString; 2] = ["--answer".into(), file.into()];
        let service = Service::start("cache-bench", "bare", self.place.path(), &flag).await?;
        let mut askers = Vec::new();
        for _ in 0..clients {
            let http = Http::connect(service.address).await?;
            askers.push(Asker::Http { http, body: body.clone(), expected: expected.clone() });
        }
        self.bare = Some(service);
        Way::new("bare handler", askers)
    }
}

/// Clients of a proxy, each with a text of its own that is a hit by now.
async fn warmed(address: SocketAddr, clients: u16) -> Result<Vec<Asker>> {
    let mut askers = Vec::new();
    for client in 0..clients {
        let mut http = Http::connect(address).await?;
        let text = format!("text number {client}, which is asked for again and again");
        let body = Bytes::from(json!({ "inputs": text }).to_string());
        let expected = timeout(PATIENCE, ask_until_hit(&mut http, &body)).await.context("no hit")??;
        askers.push(Asker::Http { http, body, expected });
    }
    Ok(askers)
}

/// What is computed is stored in the shard a little later.
async fn ask_until_hit(http: &mut Http, body: &Bytes) -> Result<Bytes> {
    loop {
        let (headers, answer) = http.post(body.clone()).await?;
        if headers.get("x-cache").is_some_and(|outcome| outcome == "hit") {
            return Ok(answer);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Clients of a cache, each with a vector of its own.
async fn stocked(cache: &Server, clients: u16) -> Result<Vec<Asker>> {
    let mut askers = Vec::new();
    for number in 0..u64::from(clients) {
        let mut client = Client::connect(cache.engine, cache.address).await?;
        let key = Key::new(number);
        client.put_many(&[key]).await?;
        askers.push(Asker::Cache { client, key });
    }
    Ok(askers)
}

//! ml-base with the real model or a tiny one, a cache shard on an empty directory, embedding-single in front of both, all in this process.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::Context;
use clap::Parser;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Answer, Client, Door},
    model_dir::model_dir,
};

/// How a grid is to be started.
#[derive(Debug)]
#[must_use]
pub struct GridBuilder {
    model: Option<PathBuf>,
    ml_base: Vec<String>,
    shard: Vec<String>,
    proxy: Vec<String>,
}

impl GridBuilder {
    fn new(model: Option<PathBuf>) -> Self {
        Self { model, ml_base: Vec::new(), shard: Vec::new(), proxy: Vec::new() }
    }

    /// More arguments for ml-base.
    pub fn ml_base(mut self, arguments: &[&str]) -> Self {
        self.ml_base.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// More arguments for cache-shard.
    pub fn shard(mut self, arguments: &[&str]) -> Self {
        self.shard.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// More arguments for embedding-single.
    pub fn proxy(mut self, arguments: &[&str]) -> Self {
        self.proxy.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// A ready grid; `None` where the model is not on this machine.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(self) -> Option<Grid> {
        let model = self.model?;
        let ml_base = Running::start("ml-base", ml_base_config(&model, &self.ml_base), ml_base::run);
        let directory = tempfile::tempdir().unwrap();
        let shard =
            Running::start("cache-shard", shard_config(directory.path(), &self.shard), cache_shard::run);
        ml_base.door.ready().await;
        shard.door.ready().await;
        let mut grid = Grid { proxies: Vec::new(), proxy: self.proxy, ml_base, shard, _directory: directory };
        grid.start_proxy().await;
        Some(grid)
    }
}

fn ml_base_config(model: &Path, arguments: &[String]) -> ml_base::Config {
    let model: PathBuf = model.to_owned();
    let model = model.to_str().unwrap();
    let command = ["ml-base", "--port", "0", "--model-id", model, "--model-store", model];
    // The goldens are float32; a test about another precision says so.
    let dtype: &[&str] = match arguments.iter().any(|argument| argument == "--dtype") {
        true => &[],
        false => &["--dtype", "float32"],
    };
    let command = command.into_iter().chain(dtype.iter().copied());
    let command = command.into_iter().chain(arguments.iter().map(String::as_str));
    ml_base::Config::new(ml_base::args::Cli::try_parse_from(command).unwrap().serve).unwrap()
}

fn shard_config(directory: &Path, arguments: &[String]) -> cache_shard::Config {
    let command = ["cache-shard", "--port", "0", "--storage-path", directory.to_str().unwrap()];
    let command = command.into_iter().chain(arguments.iter().map(String::as_str));
    cache_shard::Config::new(cache_shard::args::Args::try_parse_from(command).unwrap()).unwrap()
}

fn proxy_config(
    ml_base: SocketAddr,
    shard: SocketAddr,
    arguments: &[String],
) -> embedding_single::config::Config {
    let (url, shard_port) = (format!("http://{ml_base}"), shard.port().to_string());
    // No test is about a budget: a machine that is busy shall not turn its hits into misses.
    let of_shard = ["--shard-port", &shard_port, "--shard-timeout", "10"];
    let command = ["embedding-single", "--port", "0", "--ml-base-url", &url];
    let command = command.into_iter().chain(of_shard);
    let command = command.into_iter().chain(arguments.iter().map(String::as_str));
    embedding_single::args::Args::try_parse_from(command).unwrap().try_into().unwrap()
}

/// All services, ready. Dropping it drains them, those in front first.
#[derive(Debug)]
pub struct Grid {
    proxies: Vec<Running>,
    proxy: Vec<String>,
    ml_base: Running,
    shard: Running,
    _directory: tempfile::TempDir,
}

impl Grid {
    /// A grid for the test of this name.
    pub fn builder(test: &str) -> GridBuilder {
        GridBuilder::new(model_dir(test))
    }

    /// A grid with the model of this directory.
    pub fn of_model(directory: &Path) -> GridBuilder {
        GridBuilder::new(Some(directory.to_owned()))
    }

    /// A ready grid with default settings; `None` where the model is not on this machine.
    pub async fn start(test: &str) -> Option<Self> {
        Self::builder(test).start().await
    }

    /// One more proxy in front of the same ml-base and the same shard, with an empty L1.
    pub async fn start_proxy(&mut self) -> Door {
        self.start_proxy_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn start_proxy_with(&mut self, arguments: &[&str]) -> Door {
        let more = arguments.iter().map(ToString::to_string);
        let arguments: Vec<_> = self.proxy.iter().cloned().chain(more).collect();
        let config = proxy_config(self.ml_base.door.0, self.shard.door.0, &arguments);
        let proxy = Running::start("embedding-single", config, embedding_single::run);
        let door = proxy.door;
        self.proxies.push(proxy);
        door.ready().await;
        door
    }

    /// The first embedding-single.
    pub fn proxy(&self) -> Door {
        self.proxies[0].door
    }

    /// cache-shard.
    pub fn shard(&self) -> Door {
        self.shard.door
    }

    /// ml-base.
    pub fn ml_base(&self) -> Door {
        self.ml_base.door
    }

    /// A connection to embedding-single.
    pub async fn connect(&self) -> Client {
        self.proxy().connect().await
    }

    /// What embedding-single answers to these texts.
    pub async fn embed(&self, texts: &[impl AsRef<str>]) -> Answer {
        self.proxy().embed(texts).await
    }

    /// Texts that ml-base has computed so far.
    pub async fn computed(&self) -> u64 {
        self.ml_base().metric("ml_base_texts_total").await
    }
}

/// A service on a thread and a runtime of its own, so that it can drain while its test ends.
#[derive(Debug)]
struct Running {
    door: Door,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start<Config, Served>(
        name: &str,
        config: Config,
        run: impl FnOnce(Config, TcpListener, CancellationToken) -> Served + Send + 'static,
    ) -> Self
    where
        Config: Send + 'static,
        Served: Future<Output = anyhow::Result<()>>,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let door = Door(listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        let serve = move || {
            let runtime = Runtime::new().context("start a runtime")?;
            runtime.block_on(async { run(config, TcpListener::from_std(listener)?, told).await })
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(serve).unwrap();
        Self { door, shutdown, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        // A second panic would hide the first one.
        if !std::thread::panicking() {
            ended.unwrap().expect("a service should not panic").expect("a service should end well");
        }
    }
}

//! The list of shards behind a DNS name, watched: its addresses are the list, as they are now.
//!
//! A name that cannot be resolved, or that has no address, changes nothing: shards that are known are asked on, and a list
//! that is still empty is asked for again soon.

use std::{fmt::Debug, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::roster::Registrar;
use crate::config::{SHARDS_MAX, ShardAddress};

/// Pauses while there is no shard at all: doubled from the one to the other.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Finds the addresses of a name.
pub trait Resolve: Debug + Send + Sync + 'static {
    /// All addresses of `host`, each with `port`, in any order.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// Asks the operating system.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Keeps the list as the name has it.
#[derive(Debug)]
pub(super) struct Resolver {
    resolve: Arc<dyn Resolve>,
    host: String,
    port: u16,
    interval: Duration,
    registrar: Arc<Registrar>,
    /// What was wrong the last time: said once, not at every time.
    trouble: Option<String>,
}

impl Resolver {
    /// Of this name, resolved once in an `interval`.
    pub(super) fn new(
        resolve: Arc<dyn Resolve>,
        host: String,
        port: u16,
        interval: Duration,
        registrar: Arc<Registrar>,
    ) -> Self {
        Self { resolve, host, port, interval, registrar, trouble: None }
    }

    /// Resolves for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.once().await {
                Ok(()) => {
                    if self.trouble.take().is_some() {
                        tracing::info!(host = self.host, "the cache shards are found again");
                    }
                }
                Err(trouble) => self.complain(trouble),
            }
            let is_empty = self.registrar.roster().members().is_empty();
            sleep(if is_empty { backoff.min(self.interval) } else { self.interval }).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(&self) -> Result<(), String> {
        let resolved = self.resolve.resolve(&self.host, self.port).await;
        let mut addresses = resolved.map_err(|error| error.to_string())?;
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err("it has no address".to_owned());
        }
        let count = addresses.len();
        // Sorted before, so that every proxy leaves out the same.
        addresses.truncate(SHARDS_MAX);
        let list = addresses.into_iter().map(ShardAddress::of).collect::<Result<Vec<_>, _>>()?;
        self.registrar.replace(&list).map_err(|error| error.to_string())?;
        if count > SHARDS_MAX {
            return Err(format!("it has {count} addresses, of which only the first {SHARDS_MAX} are used"));
        }
        Ok(())
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(
                host = self.host,
                trouble,
                "the name of the cache shards is not resolved as it should be"
            );
            self.trouble = Some(trouble);
        }
    }
}

//! A client for each shard.

use std::time::Duration;

use anyhow::Context;
use protocol::cache::cache_client::CacheClient;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Long enough for a search of a full shard.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One shard, and the namespace it is asked about.
#[derive(Debug)]
pub(crate) struct Shard {
    /// As it was given.
    pub(crate) url: String,
    /// The namespace.
    pub(crate) namespace: String,
    /// The connection.
    pub(crate) client: CacheClient<Channel>,
}

/// Connects to every shard.
///
/// # Errors
/// The first one that cannot be reached, by its URL.
pub(crate) async fn connect(urls: &[String], namespace: &str) -> anyhow::Result<Vec<Shard>> {
    let mut shards = Vec::with_capacity(urls.len());
    for url in urls {
        let endpoint = Endpoint::from_shared(url.clone()).with_context(|| format!("--url `{url}`"))?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        let channel = endpoint.connect().await.with_context(|| {
            format!("no cache shard answers at {url}; `cargo xtask up` starts one, `--url` names another")
        })?;
        let client = CacheClient::new(channel).max_decoding_message_size(usize::MAX);
        shards.push(Shard { url: url.clone(), namespace: namespace.to_owned(), client });
    }
    Ok(shards)
}

impl Shard {
    /// What a shard that refuses has said.
    pub(crate) fn said(&self, status: &Status) -> anyhow::Error {
        anyhow::anyhow!("{} says: {} ({:?})", self.url, status.message(), status.code())
    }
}

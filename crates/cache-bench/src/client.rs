//! One client of an engine: one connection, one request at a time, the same for all engines.
//!
//! Whatever an engine answers instead of vectors is an error: nothing here is repeated, and nothing is a miss that was none.

mod memcached;
mod redis;
mod resp;
mod shard;
mod text;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{engine::Engine, keys::Key};

/// How long a vector is kept: longer than any run.
const TTL_SECONDS: u32 = 86_400;

/// A client with its connection.
#[derive(Debug)]
pub(crate) enum Client {
    /// Of cache-shard.
    Shard(shard::Shard),
    /// Of redis-server.
    Redis(redis::Redis),
    /// Of memcached.
    Memcached(memcached::Memcached),
}

impl Client {
    /// Connects to `engine`.
    ///
    /// # Errors
    /// Where nobody listens.
    pub(crate) async fn connect(engine: Engine, address: SocketAddr) -> Result<Self> {
        Ok(match engine {
            Engine::CacheShard => Self::Shard(shard::Shard::connect(address).await?),
            Engine::Redis => Self::Redis(redis::Redis(Wire::connect(address).await?)),
            Engine::Memcached => Self::Memcached(memcached::Memcached(Wire::connect(address).await?)),
        })
    }

    /// What is kept under each of `keys`, in their order; a miss is `None`. One request, one answer.
    ///
    /// # Errors
    /// Where the engine does not answer, or with anything else.
    pub(crate) async fn get_many(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let found = match self {
            Self::Shard(shard) => shard.get_many(keys).await?,
            Self::Redis(redis) => redis.get_many(keys).await?,
            Self::Memcached(memcached) => memcached.get_many(keys).await?,
        };
        ensure!(found.len() == keys.len(), "{} answers to {} keys", found.len(), keys.len());
        Ok(found)
    }

    /// Keeps the vectors of `keys`; all are sent before the first answer is read.
    ///
    /// # Errors
    /// Where one of them was not kept.
    pub(crate) async fn put_many(&mut self, keys: &[Key]) -> Result<()> {
        match self {
            Self::Shard(shard) => shard.put_many(keys).await,
            Self::Redis(redis) => redis.put_many(keys).await,
            Self::Memcached(memcached) => memcached.put_many(keys).await,
        }
    }
}

/// Bytes of the index of a shard by its own count; none where it does not count them.
///
/// # Errors
/// Where it does not answer.
pub(crate) async fn shard_index_bytes(address: SocketAddr) -> Result<Option<u64>> {
    shard::Shard::connect(address).await?.index_bytes().await
}

/// A TCP connection and what was read from it and not used yet.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(1 << 17) })
    }

    async fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Reads more of an answer that is not whole yet.
    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed in the middle of an answer");
        Ok(())
    }
}

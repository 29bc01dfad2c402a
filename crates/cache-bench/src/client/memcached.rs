//! memcached: `get` of all keys in one line, `set` for each vector in one pipeline; keys in hex, as lines demand.

use anyhow::{Result, bail, ensure};
use bytes::{Buf, Bytes};

use super::{
    TTL_SECONDS, Wire,
    text::{Piece, read},
};
use crate::keys::{Key, VECTOR_BYTES};

/// A connection to memcached.
#[derive(Debug)]
pub(crate) struct Memcached(pub(super) Wire);

impl Memcached {
    pub(super) async fn get_many(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let names: Vec<String> = keys.iter().map(Key::hex).collect();
        self.0.send(format!("get {}\r\n", names.join(" ")).as_bytes()).await?;
        let mut found = vec![None; keys.len()];
        // Hits come in the order of the keys.
        let mut next = 0;
        loop {
            let Some((piece, length)) = read(&self.0.buffer)? else {
                self.0.fill().await?;
                continue;
            };
            let done = match piece {
                Piece::Line("END") => true,
                Piece::Line(line) => bail!("memcached answered `{line}` to get"),
                Piece::Value { key, value } => {
                    next += place(names.get(next..).unwrap_or_default(), key)?;
                    found[next] = Some(Bytes::copy_from_slice(value));
                    next += 1;
                    false
                }
            };
            self.0.buffer.advance(length);
            if done {
                return Ok(found);
            }
        }
    }

    pub(super) async fn put_many(&mut self, keys: &[Key]) -> Result<()> {
        let mut request = Vec::with_capacity((VECTOR_BYTES + 128) * keys.len());
        for key in keys {
            let head = format!("set {} 0 {TTL_SECONDS} {VECTOR_BYTES}\r\n", key.hex());
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(&key.vector());
            request.extend_from_slice(b"\r\n");
        }
        self.0.send(&request).await?;
        for _ in keys {
            self.stored().await?;
        }
        Ok(())
    }

    async fn stored(&mut self) -> Result<()> {
        loop {
            if let Some((piece, length)) = read(&self.0.buffer)? {
                ensure!(piece == Piece::Line("STORED"), "memcached answered {piece:?} to set");
                self.0.buffer.advance(length);
                return Ok(());
            }
            self.0.fill().await?;
        }
    }
}

/// Where `key` is among the names that are still to come.
fn place(names: &[String], key: &str) -> Result<usize> {
    match names.iter().position(|name| name == key) {
        Some(place) => Ok(place),
        None => bail!("memcached answered the key {key}, which was not asked for"),
    }
}

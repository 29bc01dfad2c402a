//! Redis: GET of one key, MGET of several, SET … EX for each vector in one pipeline.

use anyhow::{Result, bail, ensure};
use bytes::{Buf, Bytes};

use super::{
    TTL_SECONDS, Wire,
    resp::{Reply, read, write},
};
use crate::keys::{Key, VECTOR_BYTES};

/// A connection to redis-server.
#[derive(Debug)]
pub(crate) struct Redis(pub(super) Wire);

impl Redis {
    pub(super) async fn get_many(&mut self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let verb: &[u8] = if keys.len() == 1 { b"GET" } else { b"MGET" };
        let words: Vec<&[u8]> =
            std::iter::once(verb).chain(keys.iter().map(|key| key.digest.as_slice())).collect();
        let mut request = Vec::with_capacity(48 * words.len());
        write(&mut request, &words);
        self.0.send(&request).await?;
        self.answer(values).await
    }

    pub(super) async fn put_many(&mut self, keys: &[Key]) -> Result<()> {
        let mut request = Vec::with_capacity((VECTOR_BYTES + 128) * keys.len());
        let ttl = TTL_SECONDS.to_string();
        for key in keys {
            write(&mut request, &[b"SET", &key.digest, &key.vector(), b"EX", ttl.as_bytes()]);
        }
        self.0.send(&request).await?;
        for _ in keys {
            self.answer(stored).await?;
        }
        Ok(())
    }

    /// Waits for one whole answer and takes it out of the buffer.
    async fn answer<T>(&mut self, take: fn(&Reply<'_>) -> Result<T>) -> Result<T> {
        loop {
            if let Some((reply, length)) = read(&self.0.buffer)? {
                let taken = take(&reply);
                self.0.buffer.advance(length);
                return taken;
            }
            self.0.fill().await?;
        }
    }
}

fn values(reply: &Reply<'_>) -> Result<Vec<Option<Bytes>>> {
    match reply {
        Reply::Array(replies) => replies.iter().map(value).collect(),
        single @ (Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Bulk(_)) => {
            Ok(vec![value(single)?])
        }
    }
}

fn value(reply: &Reply<'_>) -> Result<Option<Bytes>> {
    match reply {
        Reply::Bulk(value) => Ok(value.map(Bytes::copy_from_slice)),
        Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => {
            bail!("redis answered {reply:?} to GET")
        }
    }
}

fn stored(reply: &Reply<'_>) -> Result<()> {
    ensure!(*reply == Reply::Simple("OK"), "redis answered {reply:?} to SET");
    Ok(())
}

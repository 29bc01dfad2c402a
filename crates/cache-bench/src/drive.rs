//! The closed loop: every client reads keys, checks what came, puts what was missing, and reads again.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::Instant};

use crate::{client::Client, draws::Draws, keys::Key, record::Record, server::Server};

/// Vectors of one request while a store is filled.
const FILL_BATCH: u64 = 64;

/// When a turn ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After this time, or earlier, when a client has put so many keys: what an engine holds stays bounded.
    Time {
        /// The time.
        length: Duration,
        /// Keys that a client puts at most, but for those of its last request.
        puts_max: u64,
    },
    /// When every client has asked for so many keys.
    Keys(u64),
}

/// A turn of one engine.
#[derive(Debug)]
pub(crate) struct Turn {
    /// What all clients measured.
    pub(crate) record: Record,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl Turn {
    /// Keys asked for, a second.
    pub(crate) fn keys_per_second(&self) -> f64 {
        self.record.keys as f64 / self.elapsed.as_secs_f64()
    }
}

/// A client for each of `draws`, with `batch` keys a request, all at once.
///
/// # Errors
/// Where the engine answers anything but vectors.
pub(crate) async fn drive(
    server: &Server,
    draws: Vec<Draws>,
    batch: NonZeroUsize,
    until: Until,
) -> Result<Turn> {
    let mut clients = Vec::new();
    for draws in draws {
        let mut client = Client::connect(server.engine, server.address).await?;
        // What a first request makes a connection do is not measured.
        client.get_many(&[Key::new(0)]).await?;
        clients.push((client, draws));
    }
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (client, draws) in clients {
        running.spawn(one_client(client, draws, batch, until, begin));
    }
    let mut record = Record::new()?;
    while let Some(finished) = running.join_next().await {
        record.merge(&finished?.with_context(|| server.engine.name())?)?;
    }
    Ok(Turn { record, elapsed: begin.elapsed() })
}

async fn one_client(
    mut client: Client,
    mut draws: Draws,
    batch: NonZeroUsize,
    until: Until,
    begin: Instant,
) -> Result<Record> {
    let mut record = Record::new()?;
    // At least one request a client: a short turn on a busy machine still measures something.
    loop {
        let keys: Vec<Key> = (0..batch.get()).map(|_| Key::new(draws.next())).collect();
        read_and_put(&mut client, &keys, &mut record).await?;
        let done = match until {
            Until::Time { length, puts_max } => begin.elapsed() >= length || record.put_keys >= puts_max,
            Until::Keys(count) => record.keys >= count,
        };
        if done {
            return Ok(record);
        }
    }
}

async fn read_and_put(client: &mut Client, keys: &[Key], record: &mut Record) -> Result<()> {
    let begin = Instant::now();
    let found = client.get_many(keys).await?;
    record.add_get(begin.elapsed())?;
    record.keys += keys.len() as u64;
    let mut missing = Vec::new();
    for (key, found) in keys.iter().zip(found) {
        match found {
            Some(vector) => {
                record.hits += 1;
                record.wrong += u64::from(!key.owns(&vector));
            }
            None => missing.push(*key),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let begin = Instant::now();
    client.put_many(&missing).await?;
    record.add_put(begin.elapsed(), missing.len())
}

/// Puts the keys from `from` up to `to`; `on_put` is told how many after each request.
///
/// # Errors
/// Where one of them is not kept.
pub(crate) async fn fill(server: &Server, from: u64, to: u64, on_put: impl Fn(u64)) -> Result<()> {
    let mut client = Client::connect(server.engine, server.address).await?;
    let mut next = from;
    while next < to {
        let end = to.min(next + FILL_BATCH);
        let keys: Vec<Key> = (next..end).map(Key::new).collect();
        client.put_many(&keys).await.with_context(|| format!("fill {}", server.engine.name()))?;
        on_put(end - next);
        next = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::engine::Engine;

    /// A redis that has one vector, and answers every request with it.
    async fn answers_always(vector: bytes::Bytes) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            while stream.read(&mut request).await.unwrap() > 0 {
                stream.write_all(format!("${}\r\n", vector.len()).as_bytes()).await.unwrap();
                stream.write_all(&[&vector, b"\r\n".as_slice()].concat()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_vector_of_another_key_is_counted_as_wrong() {
        let address = answers_always(Key::new(1).vector()).await;
        let mut client = Client::connect(Engine::Redis, address).await.unwrap();
        let mut record = Record::new().unwrap();
        for number in [1, 2, 1, 3] {
            read_and_put(&mut client, &[Key::new(number)], &mut record).await.unwrap();
        }
        assert_eq!((record.hits, record.wrong), (4, 2));
    }
}

//! Measures a shard in one process, over its port: `cargo run -p cache-shard --example measure -- DIR`.
//!
//! Puts 100,000 vectors of 384 float32, asks for 64 random ones again and again, closes and opens the store. Absolute
//! times say something about this machine only.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::{Duration, Instant};

use anyhow::Context;
use cache_shard::{Config, args::Args, run};
use clap::Parser;
use protocol::cache::{
    ElementType, GetManyRequest, NewRecord, PrecisionClass, PutManyRequest, StatsRequest,
    cache_client::CacheClient,
};
use rand::Rng;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const ENTRIES: u32 = 100_000;
const WIDTH: u32 = 384;
const CALL_RECORDS: u32 = 250;
const CALL_KEYS: usize = 64;
const CALLS: usize = 2_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).context("name a directory that may be written")?;
    let (mut client, stop) = start(&directory).await?;
    let begin = Instant::now();
    for first in (0..ENTRIES).step_by(CALL_RECORDS as usize) {
        client.put_many(put(first)).await?;
    }
    let rate = f64::from(ENTRIES) / begin.elapsed().as_secs_f64();
    println!("PutMany of {CALL_RECORDS}: {rate:.0} records/s");
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let begin = Instant::now();
        client.get_many(get()).await?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("GetMany of {CALL_KEYS}: p50 {:?}, p99 {:?}", at(50), at(99));
    stop.cancel();
    drop(client);
    let begin = Instant::now();
    let (mut client, _stop) = start(&directory).await?;
    let entries = client.stats(StatsRequest::default()).await?.into_inner().entries;
    println!("closed and opened with {entries} entries: {:?}", begin.elapsed());
    Ok(())
}

/// A shard that is ready, and what stops it.
async fn start(directory: &str) -> anyhow::Result<(CacheClient<Channel>, CancellationToken)> {
    let config = Config::new(Args::parse_from(["cache-shard", "--storage-path", directory]))?;
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let served = tokio::spawn(run(config.clone(), listener, stop.clone()));
        let client = CacheClient::connect(format!("http://{address}")).await?;
        let mut client = client.max_decoding_message_size(usize::MAX);
        while !served.is_finished() {
            if client.stats(StatsRequest::default()).await.is_ok() {
                return Ok((client, stop));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The one before has not let go of the directory yet.
    }
}

fn key(number: u32) -> Vec<u8> {
    // Spread as digests are.
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    spread.repeat(4)
}

fn put(first: u32) -> PutManyRequest {
    let record = |number: u32| NewRecord {
        key: key(number).into(),
        width: WIDTH,
        element_type: ElementType::Float32.into(),
        precision_class: PrecisionClass::Float32.into(),
        tokens: 12,
        truncated: false,
        identity: vec![9; 32].into(),
        vector: (0..WIDTH)
            .flat_map(|index| ((number + index) as f32).to_le_bytes())
            .collect::<Vec<u8>>()
            .into(),
        ttl_ms: 0,
    };
    PutManyRequest {
        records: (first..first + CALL_RECORDS).map(record).collect(),
        ..PutManyRequest::default()
    }
}

fn get() -> GetManyRequest {
    let mut random = rand::rng();
    let keys = (0..CALL_KEYS).map(|_| key(random.random_range(0..ENTRIES)).into()).collect();
    GetManyRequest { namespace: String::new(), keys }
}

//! Measures a shard in one process, over its port: `cargo run --release -p cache-shard --example measure -- DIR`.
//!
//! Fills an empty directory, asks for 64 random vectors again and again, and puts on, past the bound of entries
//! say, while another caller reads. A directory that is stocked is opened and read, so that time and memory until then are those of a restart.
//! Absolute times say something about this machine only.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use cache_shard::{Config, run};
use clap::Parser;
use protocol::cache::{
    ElementType, GetManyRequest, NewRecord, PrecisionClass, PutManyRequest, StatsRequest,
    cache_client::CacheClient,
};
use rand::Rng;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const CALL_RECORDS: u32 = 250;
const CALL_KEYS: usize = 64;
const CALLS: usize = 5_000;

/// Measures a shard.
#[derive(Debug, Parser)]
struct Args {
    /// Directory of the store
    directory: PathBuf,
    /// Entries to put
    #[arg(long, default_value_t = 100_000)]
    entries: u32,
    /// Entries the store may hold
    #[arg(long, default_value_t = 1_000_000)]
    entries_max: usize,
    /// Numbers in a vector, float32
    #[arg(long, default_value_t = 384)]
    width: u32,
    /// Entries to put after that, one a call, while another caller reads
    #[arg(long, default_value_t = 0)]
    past: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let begin = Instant::now();
    let (mut client, stop) = start(&args).await?;
    let stocked = client.stats(StatsRequest::default()).await?.into_inner();
    println!("opened with {} entries, {} bytes: {:?}", stocked.entries, stocked.bytes, begin.elapsed());
    println!("most memory until then: {}", memory_most()?);
    if stocked.entries == 0 {
        fill(&args, &mut client).await?;
        read(&args, &mut client).await?;
        put_on(&args, &mut client).await?;
    } else {
        read(&args, &mut client).await?;
    }
    println!("most memory: {}", memory_most()?);
    stop.cancel();
    Ok(())
}

async fn fill(args: &Args, client: &mut CacheClient<Channel>) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    for first in (0..args.entries).step_by(CALL_RECORDS as usize) {
        let records = put(args, first..args.entries.min(first + CALL_RECORDS));
        let begin = Instant::now();
        client.put_many(records).await?;
        longest = longest.max(begin.elapsed());
    }
    let rate = f64::from(args.entries) / begin.elapsed().as_secs_f64();
    println!("PutMany of {CALL_RECORDS}: {rate:.0} records/s, longest {longest:?}");
    Ok(())
}

async fn read(args: &Args, client: &mut CacheClient<Channel>) -> anyhow::Result<()> {
    for keys in [1, CALL_KEYS] {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let keys = get(args, keys);
            let begin = Instant::now();
            client.get_many(keys).await?;
            times.push(begin.elapsed());
        }
        println!("GetMany of {keys}: {}", spread(&mut times));
    }
    Ok(())
}

/// One record a call, so that the longest call is what a segment costs that has to go.
async fn put_on(args: &Args, client: &mut CacheClient<Channel>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let reads = {
        let (mut client, stop, keys) = (client.clone(), stop.clone(), get(args, 1));
        tokio::spawn(async move {
            let mut times = Vec::new();
            while !stop.is_cancelled() {
                let begin = Instant::now();
                client.get_many(keys.clone()).await?;
                times.push(begin.elapsed());
            }
            anyhow::Ok(times)
        })
    };
    let mut times = Vec::new();
    for number in args.entries..args.entries + args.past {
        let record = put(args, number..number + 1);
        let begin = Instant::now();
        client.put_many(record).await?;
        times.push(begin.elapsed());
    }
    stop.cancel();
    let mut reads = reads.await??;
    if args.past > 0 {
        let stats = client.stats(StatsRequest::default()).await?.into_inner();
        println!("{} entries evicted:", stats.evicted);
        println!("  PutMany of 1: {}", spread(&mut times));
        println!("  GetMany of 1 beside it: {}", spread(&mut reads));
    }
    Ok(())
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied();
    let last = |count: usize| times.iter().rev().take(count).rev().collect::<Vec<_>>();
    format!(
        "p50 {:?}, p99 {:?}, longest {:?}",
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
        last(3)
    )
}

/// The most memory this process has had, as Linux counts it.
fn memory_most() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.context("no VmHWM in /proc/self/status")?.trim().to_owned())
}

/// A shard that is ready, and what stops it.
async fn start(args: &Args) -> anyhow::Result<(CacheClient<Channel>, CancellationToken)> {
    let mut arguments = cache_shard::args::Args::parse_from(["cache-shard"]);
    arguments.storage_path.clone_from(&args.directory);
    arguments.entries_max = args.entries_max;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let served = tokio::spawn(run(Config::new(arguments)?, listener, stop.clone()));
    let client = CacheClient::connect(format!("http://{address}")).await?;
    let mut client = client.max_decoding_message_size(usize::MAX);
    while !served.is_finished() {
        if client.stats(StatsRequest::default()).await.is_ok() {
            return Ok((client, stop));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    served.await??;
    anyhow::bail!("the shard has stopped")
}

fn key(number: u32) -> Vec<u8> {
    // Spread as digests are.
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    spread.repeat(4)
}

fn put(args: &Args, numbers: std::ops::Range<u32>) -> PutManyRequest {
    let vector = |number: u32| {
        let numbers = (0..args.width).flat_map(|index| ((number + index) as f32).to_le_bytes());
        numbers.collect::<Vec<u8>>()
    };
    let record = |number: u32| NewRecord {
        key: key(number).into(),
        width: args.width,
        element_type: ElementType::Float32.into(),
        precision_class: PrecisionClass::Float32.into(),
        tokens: 12,
        truncated: false,
        identity: vec![9; 32].into(),
        vector: vector(number).into(),
        ttl_ms: 0,
        text: String::new(),
        checksum: None,
    };
    PutManyRequest { records: numbers.map(record).collect(), ..PutManyRequest::default() }
}

fn get(args: &Args, count: usize) -> GetManyRequest {
    let mut random = rand::rng();
    let keys = (0..count).map(|_| key(random.random_range(0..args.entries)).into()).collect();
    GetManyRequest { namespace: String::new(), keys, with_text: false }
}

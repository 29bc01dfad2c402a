//! The real program, killed in the middle of writes: what it acknowledged is there when it is back.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use protocol::cache::{PutStatus, cache_client::CacheClient};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::interval,
};
use tonic::transport::Channel;

use crate::door::{INTERVAL, client, get, put, vector};

const ROUNDS: usize = 5;
const WRITERS: u32 = 4;
const CALL_RECORDS: u32 = 16;
/// Acknowledged calls of a round before the kill; differs from round to round.
const CALLS: [usize; ROUNDS] = [1, 7, 40, 100, 23];

struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    async fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cache-shard"))
            .args(["--port", "0", "--log-format", "json", "--storage-path"])
            .arg(directory)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the shard says where it listens");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["fields"]["message"] == "listening" {
                break event["fields"]["address"].as_str().unwrap().parse().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }
}

/// What has been acknowledged, by all writers.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Vec<u32>>>);

/// Writes numbers of its own until the shard is gone.
async fn write(mut client: CacheClient<Channel>, mut next: u32, journal: Journal) -> u32 {
    loop {
        let numbers: Vec<u32> = (0..CALL_RECORDS).map(|index| next + index * WRITERS).collect();
        next += CALL_RECORDS * WRITERS;
        let Ok(answer) = client.put_many(put(numbers.iter().copied())).await else { return next };
        let results = answer.into_inner().results;
        let accepted =
            numbers.iter().zip(&results).filter(|(_, result)| result.status() == PutStatus::Accepted);
        journal.0.lock().unwrap().extend(accepted.map(|(number, _)| *number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut starts: Vec<u32> = (0..WRITERS).collect();
    for calls in CALLS {
        let mut program = Program::start(directory.path()).await;
        let client = client(program.address).await;
        check(client.clone(), &journal).await;
        let mut ticks = interval(INTERVAL);
        let before = journal.0.lock().unwrap().len();
        let writers: Vec<_> =
            starts.iter().map(|start| tokio::spawn(write(client.clone(), *start, journal.clone()))).collect();
        while journal.0.lock().unwrap().len() < before + calls * CALL_RECORDS as usize {
            ticks.tick().await;
        }
        program.child.kill().await.unwrap();
        starts.clear();
        for writer in writers {
            starts.push(writer.await.unwrap());
        }
    }
    let program = Program::start(directory.path()).await;
    check(client(program.address).await, &journal).await;
    let acknowledged = journal.0.lock().unwrap().len();
    assert!(acknowledged >= CALLS.iter().sum::<usize>() * CALL_RECORDS as usize, "{acknowledged}");
}

async fn check(mut client: CacheClient<Channel>, journal: &Journal) {
    let acknowledged = journal.0.lock().unwrap().clone();
    for numbers in acknowledged.chunks(512) {
        let answer = client.get_many(get(numbers.iter().copied())).await.unwrap().into_inner();
        assert_eq!(answer.records.len(), numbers.len(), "acknowledged records are missing");
        let expected: Vec<_> = numbers.iter().map(|number| vector(*number)).collect();
        assert!(answer.vectors == expected.concat(), "a wrong vector");
    }
}

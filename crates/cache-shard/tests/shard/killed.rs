//! The real program, killed, stopped and held in the middle of its work: what it acknowledged is there when it is back.

use std::sync::{Arc, Mutex};

use protocol::cache::{PutStatus, cache_client::CacheClient};
use rustix::process::Signal;
use tokio::time::{interval, timeout};
use tonic::transport::Channel;

use crate::{
    door::{INTERVAL, all, client, get, put, vector},
    program::{PROGRAM, Program, command},
    stage::{say, variable},
};

/// Rounds of a test run; `cargo xtask prove` runs more.
const ROUNDS: usize = 20;
const WRITERS: u32 = 4;
const DAY_MS: u64 = 24 * 3600 * 1000;
const CALL_RECORDS: u32 = 16;
/// Acknowledged calls of a round before the kill; differs from round to round.
const CALLS: [usize; 5] = [1, 7, 40, 100, 23];

/// What has been acknowledged, by all writers.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Vec<u32>>>);

/// Writes numbers of its own until the shard is gone.
async fn write(mut client: CacheClient<Channel>, mut next: u32, journal: Journal) -> u32 {
    loop {
        let numbers: Vec<u32> = (0..CALL_RECORDS).map(|index| next + index * WRITERS).collect();
        next += CALL_RECORDS * WRITERS;
        let mut request = put(numbers.iter().copied());
        // Many rounds take longer than those of other tests live.
        request.records.iter_mut().for_each(|record| record.ttl_ms = DAY_MS);
        let Ok(answer) = client.put_many(request).await else { return next };
        let results = answer.into_inner().results;
        let accepted =
            numbers.iter().zip(&results).filter(|(_, result)| result.status() == PutStatus::Accepted);
        journal.0.lock().unwrap().extend(accepted.map(|(number, _)| *number));
    }
}

/// Writes, ends the program after so many calls by `signal`, and looks, again and again.
async fn write_and_end(signal: Signal, rounds: usize) {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut starts: Vec<u32> = (0..WRITERS).collect();
    for calls in CALLS.into_iter().cycle().take(rounds) {
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
        program.signal(signal);
        let status = program.child.wait().await.unwrap();
        assert_eq!(status.success(), signal == Signal::TERM, "{status}");
        starts.clear();
        for writer in writers {
            starts.push(writer.await.unwrap());
        }
    }
    let program = Program::start(directory.path()).await;
    check(client(program.address).await, &journal).await;
    let acknowledged = journal.0.lock().unwrap().len();
    let asked: usize = CALLS.iter().cycle().take(rounds).sum();
    assert!(acknowledged >= asked * CALL_RECORDS as usize, "{acknowledged}");
    say(&format!("{rounds} rounds of {signal:?}: {acknowledged} acknowledged, 0 missing, 0 wrong"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let rounds = variable("SUTRA_PROOF_KILLS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    write_and_end(Signal::KILL, rounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_stop_which_ends_well() {
    write_and_end(Signal::TERM, CALLS.len()).await;
}

#[tokio::test]
async fn a_shard_that_was_held_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path()).await;
    let mut client = client(program.address).await;
    client.put_many(put(0..20)).await.unwrap();
    program.signal(Signal::STOP);
    let patience = std::time::Duration::from_millis(50);
    let stat = format!("/proc/{}/stat", program.child.id().unwrap());
    let mut ticks = interval(INTERVAL);
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        ticks.tick().await;
    }
    assert!(timeout(patience, client.get_many(get(0..20))).await.is_err());
    assert!(timeout(patience, client.put_many(put(20..40))).await.is_err());
    program.signal(Signal::CONT);
    // Whether the record of a call that was given up is written is open; that it is right where it is there is not.
    let found = all(&mut client, 40).await;
    assert!(found[..20].iter().all(|found| *found), "{found:?}");
    client.put_many(put(20..40)).await.unwrap();
    assert_eq!(all(&mut client, 40).await, [true; 40]);
    program.stop().await;
}

#[tokio::test]
async fn a_second_program_on_the_directory_ends_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path()).await;
    client(program.address).await;
    let second = command(vec![PROGRAM.into()], directory.path()).output().await.unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && said.contains("is in use by another process"), "{said}");
    program.stop().await;
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

//! The real program on file systems that are really full and really read-only.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use protocol::cache::{ClearRequest, DeleteRequest, PutStatus, cache_client::CacheClient};
use tonic::{Code, transport::Channel};

use crate::{
    door::{all, client, key, statuses},
    program::{PROGRAM, Program, command},
    stage::Stage,
};

const TMPFS: &str = "mount -t tmpfs -o size=2m,mode=777 tmpfs \"$1\"";
const EXT4: &str = "truncate -s 16M \"$2\" && mkfs.ext4 -q \"$2\" && mount -o loop \"$2\" \"$1\"";
const RECORDS: u32 = 40;
const ALL: [bool; RECORDS as usize] = [true; RECORDS as usize];

async fn start(stage: &Stage) -> (Program, CacheClient<Channel>) {
    let words = [stage.enter(), vec![PROGRAM.into()]].concat();
    let program = Program::spawn(&mut command(words, stage.directory())).await;
    let client = client(program.address).await;
    (program, client)
}

/// Writes a file until there is no room.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    let mut file = File::create(&path).unwrap();
    for bytes in [65_536, 4096, 1] {
        let error = loop {
            if let Err(error) = file.write_all(&vec![1; bytes]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    path
}

/// Records from `first` on, until the disk takes no more; how many it took.
async fn put_until_full(shard: &mut CacheClient<Channel>, first: u32) -> u32 {
    let put = statuses(shard, first..first + 500).await;
    let accepted = put.iter().take_while(|status| **status == PutStatus::Accepted).count();
    assert!(put[accepted..].iter().all(|status| *status == PutStatus::DiskFull), "{put:?}");
    assert!(accepted < put.len(), "the disk takes records");
    u32::try_from(accepted).unwrap()
}

#[tokio::test]
async fn a_disk_that_is_really_full_costs_new_records_until_there_is_room() {
    let name = "a_disk_that_is_really_full_costs_new_records_until_there_is_room";
    let Some(stage) = Stage::set(name, TMPFS).await else { return };
    let (program, mut shard) = start(&stage).await;
    statuses(&mut shard, 0..RECORDS).await;
    let filler = fill(&stage.seen_from_here());
    let there = RECORDS + put_until_full(&mut shard, RECORDS).await;
    let degraded = program.degraded().await.unwrap();
    assert!(degraded.contains("No space left"), "{degraded}");
    assert_eq!(all(&mut shard, there).await, vec![true; there as usize]);
    // As good after a kill, on a disk that is still full.
    program.kill().await;
    let (program, mut shard) = start(&stage).await;
    assert!(program.degraded().await.is_some_and(|degraded| degraded.contains("No space left")));
    assert_eq!(all(&mut shard, there).await, vec![true; there as usize]);
    assert_eq!(put_until_full(&mut shard, there).await, 0);
    // No write of a caller is needed to see that there is room again.
    std::fs::remove_file(filler).unwrap();
    program.recovers().await;
    assert_eq!(statuses(&mut shard, [1000]).await, [PutStatus::Accepted]);
    program.kill().await;
    let (program, mut shard) = start(&stage).await;
    assert_eq!(all(&mut shard, there).await, vec![true; there as usize]);
    assert!(all(&mut shard, 1001).await[1000]);
    program.stop().await;
}

#[tokio::test]
async fn a_clear_on_a_disk_that_is_really_full_is_written() {
    let name = "a_clear_on_a_disk_that_is_really_full_is_written";
    let Some(stage) = Stage::set(name, TMPFS).await else { return };
    let (program, mut shard) = start(&stage).await;
    statuses(&mut shard, 0..RECORDS).await;
    fill(&stage.seen_from_here());
    put_until_full(&mut shard, RECORDS).await;
    shard.clear(ClearRequest { namespace: "n".to_owned() }).await.unwrap();
    program.kill().await;
    let (program, mut shard) = start(&stage).await;
    assert_eq!(all(&mut shard, RECORDS).await, [false; RECORDS as usize]);
    program.stop().await;
}

/// What holds while nothing can be written; takes record 0 away.
async fn is_read_only(program: &Program, shard: &mut CacheClient<Channel>) {
    assert_eq!(all(shard, RECORDS).await, ALL);
    assert_eq!(statuses(shard, [RECORDS, RECORDS + 1]).await, [PutStatus::ReadOnly; 2]);
    let degraded = program.degraded().await.unwrap();
    assert!(degraded.contains("Read-only"), "{degraded}");
    let request = DeleteRequest { namespace: "n".to_owned(), keys: vec![key(0)] };
    assert_eq!(shard.delete(request).await.unwrap_err().code(), Code::Unavailable);
    let found = all(shard, RECORDS).await;
    assert_eq!((found[0], &found[1..]), (false, &ALL[1..]));
}

/// What holds once it can be written again.
async fn recovers(program: &Program, shard: &mut CacheClient<Channel>) {
    program.recovers().await;
    assert_eq!(statuses(shard, [0, RECORDS]).await, [PutStatus::Accepted; 2]);
    assert_eq!(all(shard, RECORDS).await, ALL);
}

#[tokio::test]
async fn a_file_system_that_is_read_only_from_the_start_is_served_and_then_written() {
    let name = "a_file_system_that_is_read_only_from_the_start_is_served_and_then_written";
    let Some(stage) = Stage::set(name, TMPFS).await else { return };
    let (program, mut shard) = start(&stage).await;
    statuses(&mut shard, 0..RECORDS).await;
    program.stop().await;
    stage.remount("bind,ro").await;
    let (program, mut shard) = start(&stage).await;
    assert!(program.degraded().await.is_some(), "before anything is put");
    is_read_only(&program, &mut shard).await;
    stage.remount("bind,rw").await;
    recovers(&program, &mut shard).await;
    program.stop().await;
}

#[tokio::test]
async fn a_file_system_that_becomes_read_only_under_a_running_shard_costs_new_records() {
    let name = "a_file_system_that_becomes_read_only_under_a_running_shard_costs_new_records";
    let Some(stage) = Stage::set(name, TMPFS).await else { return };
    let (program, mut shard) = start(&stage).await;
    statuses(&mut shard, 0..RECORDS).await;
    program.stop().await;
    // The system refuses to remount while a file is open for writing: none is before the first put.
    let (program, mut shard) = start(&stage).await;
    assert_eq!(program.degraded().await, None);
    stage.remount("bind,ro").await;
    is_read_only(&program, &mut shard).await;
    stage.remount("bind,rw").await;
    recovers(&program, &mut shard).await;
    program.stop().await;
    let (program, mut shard) = start(&stage).await;
    assert_eq!(all(&mut shard, RECORDS + 1).await, [true; RECORDS as usize + 1]);
    program.stop().await;
}

/// What becomes of most file systems in the field: the kernel finds an error and takes no more writes, whatever is open.
#[tokio::test]
async fn a_file_system_that_the_kernel_gives_up_under_writes_still_answers() {
    let name = "a_file_system_that_the_kernel_gives_up_under_writes_still_answers";
    let Some(stage) = Stage::set(name, EXT4).await else { return };
    let (program, mut shard) = start(&stage).await;
    statuses(&mut shard, 0..RECORDS).await;
    stage.remount("abort").await;
    let refused = statuses(&mut shard, [RECORDS]).await;
    assert!(matches!(refused[0], PutStatus::ReadOnly | PutStatus::IoError), "{refused:?}");
    assert!(program.degraded().await.is_some());
    assert_eq!(all(&mut shard, RECORDS + 1).await, [&ALL[..], &[false]].concat());
    program.stop().await;
}

//! The real program over a directory that is full of what does not belong there, and over files that change under it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use protocol::cache::PutStatus;
use rand::RngCore;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    door::{all, client, statuses},
    program::{PROGRAM, Program, command},
};

const RECORDS: u32 = 40;
const NOBODY: u32 = 65_534;

/// Every name that the store uses, those at the end of its numbers too, and some that it does not.
const NAMES: [&str; 17] = [
    "LOCK",
    "generations",
    "generations.draft",
    "generations.damaged",
    "memos",
    "memos.draft",
    "memos.damaged",
    "probe",
    "0000000000.seg",
    "0000000001.seg",
    "0000000001.seg.damaged",
    "0000000002.seg",
    "4294967294.seg",
    "4294967295.seg",
    "4294967295.seg.damaged",
    "9999999999.seg",
    "-000000001.seg",
];

/// Puts one kind of rubbish at a path.
type Put = fn(&Path);

fn random_bytes(path: &Path) {
    let mut bytes = [0; 5000];
    rand::rng().fill_bytes(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

fn directory_with_a_file(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("mine"), "text").unwrap();
}

fn unreadable(path: &Path) {
    random_bytes(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
}

const RUBBISH: [(&str, Put); 8] = [
    ("random bytes", random_bytes),
    ("empty files", |path| fs::write(path, "").unwrap()),
    ("pipes", pipe),
    ("directories", |path| fs::create_dir(path).unwrap()),
    ("directories with a file", directory_with_a_file),
    ("links to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
    ("links to what has no end", |path| symlink("/dev/zero", path).unwrap()),
    ("files of 8 GiB", |path| File::create(path).unwrap().set_len(1 << 33).unwrap()),
];

/// A copy of the program that nobody can run, and a directory for its store that is nobody's: for the superuser no file
/// is unreadable.
fn for_nobody(directory: &Path) -> (PathBuf, PathBuf) {
    let (program, store) = (directory.join("cache-shard"), directory.join("store"));
    fs::copy(PROGRAM, &program).unwrap();
    fs::create_dir(&store).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&store, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    (program, store)
}

/// It starts, and works as over an empty directory, before and after a restart.
async fn works(program: Program, restart: impl AsyncFn() -> Program, rubbish: &str) {
    let mut shard = client(program.address).await;
    assert_eq!(program.degraded().await, None, "{rubbish}");
    assert_eq!(all(&mut shard, RECORDS).await, [false; RECORDS as usize], "{rubbish}");
    let accepted = statuses(&mut shard, 0..RECORDS).await;
    assert!(accepted.iter().all(|status| *status == PutStatus::Accepted), "{rubbish}: {accepted:?}");
    assert_eq!(all(&mut shard, RECORDS).await, [true; RECORDS as usize], "{rubbish}");
    program.stop().await;
    let program = restart().await;
    let mut shard = client(program.address).await;
    assert_eq!(all(&mut shard, RECORDS).await, [true; RECORDS as usize], "{rubbish} after a restart");
    assert_eq!(program.degraded().await, None, "{rubbish} after a restart");
    program.stop().await;
}

#[tokio::test]
async fn rubbish_under_every_name_of_the_store_stops_nothing() {
    for (rubbish, put) in RUBBISH {
        let directory = tempfile::tempdir().unwrap();
        NAMES.iter().for_each(|name| put(&directory.path().join(name)));
        let start = async || Program::start(directory.path()).await;
        works(start().await, start, rubbish).await;
    }
}

#[tokio::test]
async fn unreadable_files_under_every_name_of_the_store_stop_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (program, store) = for_nobody(directory.path());
    NAMES.iter().for_each(|name| unreadable(&store.join(name)));
    let start = async || {
        let mut command = command(vec![program.clone().into()], &store);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Program::spawn(&mut command).await
    };
    works(start().await, start, "unreadable files").await;
}

/// The segments of a directory, the first one first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn a_byte_that_changes_under_a_running_shard_costs_at_most_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path()).await;
    let mut shard = client(program.address).await;
    statuses(&mut shard, 0..RECORDS).await;
    let segment = File::options().read(true).write(true).open(&segments(directory.path())[0]).unwrap();
    let bytes = segment.metadata().unwrap().len();
    let mut lost = 0;
    for offset in (0..bytes).step_by(61) {
        let mut byte = [0];
        segment.read_exact_at(&mut byte, offset).unwrap();
        segment.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
        let found = all(&mut shard, RECORDS).await;
        // The header is read at the start only: for the restart it has to be right.
        if offset < 28 {
            segment.write_all_at(&byte, offset).unwrap();
        }
        let missing = found.iter().filter(|found| !**found).count();
        // One that was put again stands behind those whose bytes change here.
        assert!(missing <= 1, "byte {offset}: {found:?}");
        lost += missing;
        statuses(&mut shard, 0..RECORDS).await;
        assert_eq!(all(&mut shard, RECORDS).await, [true; RECORDS as usize], "byte {offset}");
    }
    assert_eq!(lost, RECORDS as usize, "each record was changed once before it was put again");
    program.stop().await;
    let program = Program::start(directory.path()).await;
    assert_eq!(all(&mut client(program.address).await, RECORDS).await, [true; RECORDS as usize]);
}

#[tokio::test]
async fn a_segment_that_is_cut_under_a_running_shard_costs_what_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path()).await;
    let mut shard = client(program.address).await;
    statuses(&mut shard, 0..RECORDS).await;
    let path = &segments(directory.path())[0];
    let segment = File::options().write(true).open(path).unwrap();
    segment.set_len(segment.metadata().unwrap().len() / 2).unwrap();
    let found = all(&mut shard, RECORDS).await;
    let kept = found.iter().take_while(|found| **found).count();
    assert!((15..=20).contains(&kept) && found[kept..].iter().all(|found| !found), "{found:?}");
    statuses(&mut shard, 0..RECORDS).await;
    assert_eq!(all(&mut shard, RECORDS).await, [true; RECORDS as usize]);
    program.kill().await;
    let program = Program::start(directory.path()).await;
    assert_eq!(all(&mut client(program.address).await, RECORDS).await, [true; RECORDS as usize]);
}

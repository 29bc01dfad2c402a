//! Small values by name: kept over everything that forgets vectors, and lost only with their file.

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use cache_shard::store::{MEMO_BYTES_MAX, MEMOS_MAX, MemoError, Options, Store};
use protocol::cache::{ClearRequest, GetMemoRequest, PutMemoRequest};
use tonic::Code;

use crate::{
    door::Door,
    stock::{Failing, TestClock, open, options},
};

const VALUE: &[u8] = b"\0what it was\n";

fn put(store: &Store, name: &str) -> Result<(), MemoError> {
    store.put_memo("n", name, Bytes::from_static(VALUE))
}

fn is_there(store: &Store, name: &str) -> bool {
    store.memo("n", name).is_some_and(|value| value == VALUE)
}

#[test]
fn a_memo_outlives_a_restart_and_a_clear_and_belongs_to_its_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, "models").unwrap();
    store.clear("n").unwrap();
    drop(store);
    let store = open(directory.path());
    assert!(is_there(&store, "models"));
    assert_eq!((store.memo("n", "other"), store.memo("m", "models")), (None, None));
    store.put_memo("n", "models", Bytes::new()).unwrap();
    drop(store);
    assert_eq!(open(directory.path()).memo("n", "models"), Some(Bytes::new()));
}

#[test]
fn a_memo_that_cannot_be_written_is_refused_and_the_old_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Failing::new(directory.path());
    let options = Options { vfs: Arc::new(gate.clone()), ..options(directory.path(), &TestClock::new()) };
    let store = Store::open(options).unwrap();
    put(&store, "models").unwrap();
    gate.after(0, io::ErrorKind::StorageFull);
    let refused = store.put_memo("n", "models", Bytes::from_static(b"new"));
    assert!(matches!(refused, Err(MemoError::Disk(_))), "{refused:?}");
    assert!(is_there(&store, "models") && store.stats().degraded.is_some());
    // What is there already needs no disk.
    put(&store, "models").unwrap();
    gate.mend();
    store.keep();
    assert_eq!(store.stats().degraded, None);
    drop(store);
    assert!(is_there(&open(directory.path()), "models"));
}

#[test]
fn a_damaged_file_of_memos_costs_the_memos_and_nothing_else() {
    let damages: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "rubbish").unwrap(),
        |path| fs::write(path, &fs::read(path).unwrap()[..40]).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        put(&open(directory.path()), "models").unwrap();
        damage(&directory.path().join("memos"));
        let store = open(directory.path());
        assert_eq!(store.memo("n", "models"), None, "damage {number}");
        put(&store, "models").unwrap();
        drop(store);
        assert!(is_there(&open(directory.path()), "models"), "damage {number}");
    }
}

#[test]
fn memos_are_bounded_in_number() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..MEMOS_MAX {
        put(&store, &number.to_string()).unwrap();
    }
    assert_eq!(put(&store, "one more"), Err(MemoError::TooMany));
    store.put_memo("n", "3", Bytes::new()).unwrap();
}

#[tokio::test]
async fn memos_are_kept_and_refused_over_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(directory.path(), &[]).await;
    let mut client = door.client().await;
    let memo = |value: Bytes| PutMemoRequest { namespace: "n".into(), name: "models".into(), value };
    client.put_memo(memo(Bytes::from_static(VALUE))).await.unwrap();
    client.clear(ClearRequest { namespace: "n".to_owned() }).await.unwrap();
    let long = client.put_memo(memo(vec![0; MEMO_BYTES_MAX + 1].into())).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    assert!(long.message().contains("`value` has 16385 bytes, the limit is 16384"), "{long}");
    let mut get = async |name: &str| {
        let request = GetMemoRequest { namespace: "n".to_owned(), name: name.to_owned() };
        client.get_memo(request).await.unwrap().into_inner().value
    };
    assert_eq!(get("models").await.as_deref(), Some(VALUE));
    assert_eq!(get("other").await, None);
    door.close().await;
}

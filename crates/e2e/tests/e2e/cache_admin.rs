//! The commands of cache-admin as a user starts them, on real shards.

use std::{path::Path, process::Output, sync::Arc};

use bytes::Bytes;
use cache_shard::store::{
    Budget, Durability, Element, Identity, Key, NewRecord, Options, Precision, RealFs, Store, SystemClock,
    TtlMode, Vector,
};
use e2e::binary;
use serde_json::Value;
use tokio::{net::TcpListener, process::Command, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Two shards with ten records each, as a proxy would have divided them.
struct Shards {
    urls: String,
    stop: CancellationToken,
    served: Vec<JoinHandle<anyhow::Result<()>>>,
    _directories: Vec<tempfile::TempDir>,
}

fn key(number: u8) -> [u8; 32] {
    [number; 32]
}

fn hex(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn stock(directory: &Path, numbers: impl Iterator<Item = u8>) {
    let options = Options {
        vfs: Arc::new(RealFs::new(directory)),
        budget: Budget {
            entries_max: 1_000,
            bytes_max: 1 << 22,
            segment_bytes_max: 1 << 20,
            index_bytes_max: 1 << 20,
        },
        default_ttl: std::time::Duration::from_secs(600),
        ttl_mode: TtlMode::Absolute,
        ttl_jitter_percent: 0,
        durability: Durability::Os,
        clock: Arc::new(SystemClock::default()),
    };
    let store = Store::open(options).unwrap();
    let record = |number: u8| NewRecord {
        key: Key(key(number)),
        vector: Vector {
            identity: Identity([9; 32]),
            element: Element::Float32,
            precision: Precision::Float32,
            width: 2,
            tokens: number.into(),
            truncated: false,
            text: Bytes::from(format!("text {number}")),
            bytes: [1.0, f32::from(number)]
                .iter()
                .flat_map(|it| it.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        },
        ttl: None,
    };
    let records: Vec<_> = numbers.map(record).collect();
    store.put_many("default", &records, None);
}

impl Shards {
    async fn start() -> Self {
        let stop = CancellationToken::new();
        let (mut urls, mut served, mut directories) = (Vec::new(), Vec::new(), Vec::new());
        for first in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            stock(directory.path(), (first..=20).step_by(2));
            let mut args = <cache_shard::args::Args as clap::Parser>::parse_from(["cache-shard"]);
            args.storage_path = directory.path().to_owned();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            let config = cache_shard::Config::new(args).unwrap();
            served.push(tokio::spawn(cache_shard::run(config, listener, stop.clone())));
            directories.push(directory);
        }
        let shards = Self { urls: urls.join(","), stop, served, _directories: directories };
        while !shards.run(&["stats"]).await.status.success() {
            tokio::task::yield_now().await;
        }
        shards
    }

    async fn run(&self, args: &[&str]) -> Output {
        let program = binary("cache-admin");
        Command::new(program).args(args).args(["--url", &self.urls]).output().await.unwrap()
    }

    /// What a command that succeeds prints.
    async fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        for served in self.served {
            served.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_found_on_whichever_shard_and_forgotten_everywhere() {
    let shards = Shards::start().await;
    let record = shards.json(&["get", &hex(4)]).await;
    assert_eq!((&record["tokens"], &record["text"]), (&Value::from(4), &Value::from("text 4")));
    assert_eq!(record["vector"], serde_json::json!([1.0, 4.0]));
    assert_eq!(shards.json(&["delete", &hex(4), &hex(5), &hex(99)]).await["deleted"], 2);
    let gone = shards.run(&["get", &hex(4)]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no shard has this key"));
    let stats = shards.json(&["stats"]).await;
    assert_eq!((&stats[0]["entries"], &stats[1]["entries"]), (&Value::from(9), &Value::from(9)));
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_come_from_all_shards_nearest_first() {
    let shards = Shards::start().await;
    let near = shards.json(&["similar", &hex(10), "--count", "3"]).await;
    let tokens: Vec<_> = near.as_array().unwrap().iter().map(|it| it["tokens"].as_u64().unwrap()).collect();
    assert_eq!(tokens, [11, 9, 12]);
    let table = shards.run(&["similar", &hex(10), "--count", "3"]).await;
    assert!(String::from_utf8_lossy(&table.stdout).contains("text 11"));
    shards.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_holds_every_record_and_a_clear_leaves_none() {
    let shards = Shards::start().await;
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("records.jsonl");
    assert!(shards.run(&["export", "--out", out.to_str().unwrap()]).await.status.success());
    let lines = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut tokens: Vec<_> = lines.iter().map(|line| line["tokens"].as_u64().unwrap()).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=20).collect::<Vec<_>>());
    assert_eq!(lines[0]["vector"][1].as_f64(), lines[0]["tokens"].as_f64());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(shards.json(&["clear"]).await["cleared_shards"], 2);
    let nothing = shards.run(&["export", "--out", "-"]).await;
    assert!(nothing.status.success() && nothing.stdout.is_empty());
    shards.stop().await;
}

#[tokio::test]
async fn a_shard_that_is_not_there_is_named() {
    let program = binary("cache-admin");
    let output = Command::new(program).args(["stats", "--url", "http://127.0.0.1:1"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("http://127.0.0.1:1") && said.contains("cargo xtask up"), "{said}");
}

//! Another model under traffic: no request fails, and no answer holds vectors of two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    asking::until,
    client::Connection,
    fake::{WIDTH, vector_of},
    fake_shard::FakeShard,
    grid::Grid,
};

const CLIENTS: usize = 8;

/// Clients that ask for hits and misses all the time, and check every answer.
struct Traffic {
    clients: JoinSet<()>,
    stop: CancellationToken,
    /// First digits of the identity that has answered each client last.
    seen: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl Traffic {
    async fn start(grid: &Grid, model: Option<&'static str>) -> Self {
        let (stop, seen) = (CancellationToken::new(), Arc::default());
        let mut traffic = Self { clients: JoinSet::new(), stop, seen };
        for client in 0..CLIENTS {
            let (connection, stop, seen) = (grid.connect().await, traffic.stop.clone(), traffic.seen.clone());
            traffic.clients.spawn(ask_on(connection, client, model, stop, seen));
        }
        traffic
    }

    /// Waits until every client has had an answer from this identity, so that none still asks for another.
    async fn only(&self, digits: &str) {
        self.seen.lock().unwrap().clear();
        until(async || {
            let seen = self.seen.lock().unwrap();
            seen.len() == CLIENTS && seen.values().all(|seen| seen == digits)
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.clients.join_all().await;
    }
}

async fn ask_on(
    mut connection: Connection,
    client: usize,
    model: Option<&'static str>,
    stop: CancellationToken,
    seen: Arc<Mutex<BTreeMap<usize, String>>>,
) {
    for round in 0.. {
        if stop.is_cancelled() {
            return;
        }
        // Of these one is new, one may be in flight for another client, and three are hits by and by.
        let texts = [
            format!("{client} asks {round}"),
            format!("all ask {}", round / 4),
            "a".to_owned(),
            "b".to_owned(),
            "c".to_owned(),
        ];
        let answer = connection.embed(&json!({"inputs": texts, "model": model, "normalize": false})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let digits = &answer.header("x-model-identity")[..2];
        for (row, text) in answer.rows().iter().zip(&texts) {
            assert_eq!(*row, vector_of(digits, text, WIDTH), "{text} by {digits}");
        }
        seen.lock().unwrap().insert(client, digits.to_owned());
    }
}

async fn grid() -> (Vec<FakeShard>, Grid) {
    let shards = vec![FakeShard::start().await, FakeShard::start().await];
    let list = format!("{},{}", shards[0].address, shards[1].address);
    let grid = Grid::start(&["--shards", &list, "--shard-timeout", "30", "--chunk-texts-max", "2"]).await;
    (shards, grid)
}

#[tokio::test]
async fn an_alias_moves_to_another_model_under_traffic() {
    let (_shards, grid) = grid().await;
    grid.fake.set_models(&[("old/model", "main", "aa"), ("new/model", "", "bb")]);
    // Known from the first poll on; the proxy was ready before, by another name.
    let mut connection = grid.connect().await;
    until(async || {
        connection.embed(&json!({"inputs": "first", "model": "main"})).await.status == StatusCode::OK
    })
    .await;
    let traffic = Traffic::start(&grid, Some("main")).await;
    traffic.only("aa").await;
    grid.fake.set_models(&[("old/model", "", "aa"), ("new/model", "main", "bb")]);
    traffic.only("bb").await;
    grid.fake.set_models(&[("new/model", "main", "bb")]);
    traffic.only("bb").await;
    traffic.stop().await;
    let by_id = connection.embed(&json!({"inputs": "a", "model": "new/model"})).await;
    assert_eq!((by_id.status, by_id.header("x-cache")), (StatusCode::OK, "hit"));
}

#[tokio::test]
async fn ml_base_comes_back_with_another_model_under_traffic() {
    let (shards, grid) = grid().await;
    let traffic = Traffic::start(&grid, None).await;
    traffic.only("aa").await;
    for digits in ["bb", "cc"] {
        grid.fake.set_identity(digits);
        traffic.only(digits).await;
    }
    traffic.stop().await;
    // Vectors of all three lie beside each other in the shards, and none is found for another.
    let mut identities = BTreeSet::new();
    for shard in &shards {
        identities.extend(shard.stored(1).await.iter().map(|record| record.identity.clone()));
    }
    assert_eq!(identities.len(), 3);
}

//! Two levels: what comes from the shard, what goes there, and a shard that is slow, full, away or lying.

use std::net::SocketAddr;

use hyper::{Method, StatusCode};
use serde_json::json;
use service::lifecycle::{Lifecycle, State};
use tokio_util::sync::DropGuard;
use tonic::Code;

use crate::{
    asking::{clear, embed, l2, metric, until, used_again},
    client::Connection,
    fake::Fake,
    fake_shard::{BYTES, FakeShard, Mode},
    grid::proxy,
};

/// Two proxies in front of one ml-base and one shard.
struct Pair {
    fake: Fake,
    shard: FakeShard,
    addresses: [SocketAddr; 2],
    _stop: [DropGuard; 2],
}

impl Pair {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        let (fake, shard) = (Fake::start().await, FakeShard::start().await);
        let (one, stop_one) = started(&fake, &shard, arguments).await;
        let (other, stop_other) = started(&fake, &shard, arguments).await;
        Self { fake, shard, addresses: [one, other], _stop: [stop_one, stop_other] }
    }

    async fn one(&self) -> Connection {
        Connection::open(self.addresses[0]).await
    }

    async fn other(&self) -> Connection {
        Connection::open(self.addresses[1]).await
    }
}

/// A ready proxy that has seen the shard.
async fn started(fake: &Fake, shard: &FakeShard, arguments: &[&str]) -> (SocketAddr, DropGuard) {
    let of_shard = shard.arguments();
    let arguments: Vec<&str> = of_shard.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let (address, lifecycle, stop) = proxy(&format!("http://{}", fake.address), &arguments).await;
    lifecycle.wait_for(State::Ready).await;
    let mut connection = Connection::open(address).await;
    until(async || l2(&mut connection).await["bytes"] == BYTES).await;
    (address, stop)
}

#[tokio::test]
async fn what_one_proxy_computed_another_finds_in_the_shard_bit_equal() {
    let pair = Pair::start().await;
    let computed = embed(&mut pair.one().await, &["a", "b"]).await;
    pair.shard.stored(2).await;
    let mut other = pair.other().await;
    let found = embed(&mut other, &["b", "new", "a"]).await;
    assert_eq!((found.header("x-cache"), found.header("x-cache-hits")), ("partial", "2"));
    let (computed, found) = (computed.json()["embeddings"].clone(), found.json()["embeddings"].clone());
    assert_eq!((&found[0], &found[2]), (&computed[1], &computed[0]));
    assert_eq!(pair.fake.texts().len(), 3);
    let stats = l2(&mut other).await;
    assert_eq!((stats["hits"].as_u64(), stats["misses"].as_u64()), (Some(2), Some(1)), "{stats}");
    assert_eq!(pair.shard.namespaces(), ["default"]);
}

#[tokio::test]
async fn a_hit_of_the_shard_is_a_hit_of_l1_afterwards() {
    let pair = Pair::start().await;
    embed(&mut pair.one().await, &["a"]).await;
    pair.shard.stored(1).await;
    let mut other = pair.other().await;
    for _ in 0..3 {
        assert_eq!(embed(&mut other, &["a"]).await.header("x-cache"), "hit");
    }
    assert_eq!(pair.shard.lookups(), 2, "one of each proxy");
}

#[tokio::test]
async fn lists_longer_than_the_shard_takes_are_looked_up_in_several_calls() {
    let pair = Pair::start().await;
    let texts: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    embed(&mut pair.one().await, &texts).await;
    pair.shard.stored(250).await;
    assert_eq!(pair.shard.lookups(), 3);
    assert_eq!(embed(&mut pair.other().await, &texts).await.header("x-cache-hits"), "250");
}

#[tokio::test]
async fn a_limit_that_changes_while_the_shard_is_asked_loses_no_text() {
    let pair = Pair::start_with(&["--shard-timeout", "30"]).await;
    pair.shard.set(Mode::Silent);
    let mut asking = pair.one().await;
    let asked = tokio::spawn(async move {
        let texts: Vec<String> = (0..250).map(|number| number.to_string()).collect();
        asking.embed(&json!({"texts": texts})).await.rows().len()
    });
    pair.shard.looked_up(3).await;
    pair.shard.set_keys_max(1000);
    let mut one = pair.one().await;
    until(async || l2(&mut one).await["entries"] == 1000).await;
    pair.shard.set(Mode::Honest);
    assert_eq!(asked.await.unwrap(), 250);
}

#[tokio::test]
async fn what_the_caller_says_of_time_and_cache_holds_for_the_shard_too() {
    let pair = Pair::start_with(&["--shard-ttl", "1000"]).await;
    let mut one = pair.one().await;
    one.embed(&json!({"texts": ["short"], "cache_ttl_seconds": 60})).await.rows();
    one.embed(&json!({"texts": ["long"], "cache_ttl_seconds": 5000})).await.rows();
    let body = json!({"texts": ["bypass"]}).to_string();
    one.send(Method::POST, "/embed", &[("cache-control", "no-cache")], body).await.rows();
    let mut ttls: Vec<_> = pair.shard.stored(2).await.iter().map(|record| record.ttl_ms).collect();
    ttls.sort_unstable();
    assert!(ttls.len() == 2 && ttls[0] <= 60_000 && ttls[1] <= 1_000_000 && ttls[1] > 60_000, "{ttls:?}");
    assert_eq!(pair.shard.lookups(), 2);
}

#[tokio::test]
async fn a_shard_that_does_not_answer_costs_its_budget_and_then_nothing() {
    let pair = Pair::start_with(&["--shard-timeout", "0.02"]).await;
    let mut one = pair.one().await;
    pair.shard.set(Mode::Silent);
    let mut asked = 0;
    while metric(&mut one, "l2_calls_total", "skipped").await == 0 {
        embed(&mut one, &[&format!("text {asked}")]).await;
        asked += 1;
    }
    // Probes are answered all the time, so one lookup in a while is a trial.
    let late = metric(&mut one, "l2_calls_total", "late").await;
    assert!((5..=6).contains(&late), "{late}");
    assert_eq!(l2(&mut one).await["state"], "down");
    pair.shard.set(Mode::Honest);
    used_again(&mut one).await;
}

#[tokio::test]
async fn lies_of_the_shard_are_misses() {
    let lies = [
        Mode::LieHits,
        Mode::LieIdentity,
        Mode::LieBytes,
        Mode::LieNumbers,
        Mode::Refuse(Code::InvalidArgument),
        Mode::Refuse(Code::DataLoss),
        Mode::Refuse(Code::ResourceExhausted),
    ];
    for lie in lies {
        let pair = Pair::start().await;
        let right = embed(&mut pair.one().await, &["a"]).await;
        pair.shard.stored(1).await;
        pair.shard.set(lie);
        let answer = embed(&mut pair.other().await, &["a"]).await;
        assert_eq!(answer.header("x-cache"), "miss", "{lie:?}");
        assert_eq!(answer.json()["embeddings"], right.json()["embeddings"], "{lie:?}");
    }
}

#[tokio::test]
async fn a_full_shard_fails_nothing() {
    let pair = Pair::start().await;
    pair.shard.set(Mode::Full);
    let mut one = pair.one().await;
    assert_eq!(embed(&mut one, &["a"]).await.header("x-cache"), "miss");
    until(async || metric(&mut one, "l2_writes_total", "refused").await == 1).await;
    assert_eq!(embed(&mut one, &["a"]).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn vectors_wait_for_a_shard_that_is_away_and_it_is_used_again() {
    let pair = Pair::start().await;
    let mut one = pair.one().await;
    embed(&mut one, &["before"]).await;
    let address = pair.shard.address;
    pair.shard.stop().await;
    embed(&mut one, &["while"]).await;
    let shard = FakeShard::start_at(address).await;
    let stored = shard.stored(1).await;
    assert_eq!(stored.len(), 1);
    used_again(&mut one).await;
}

#[tokio::test]
async fn a_clear_at_one_proxy_is_true_at_the_other() {
    let pair = Pair::start().await;
    let (mut one, mut other) = (pair.one().await, pair.other().await);
    embed(&mut one, &["a"]).await;
    pair.shard.stored(1).await;
    assert_eq!(embed(&mut other, &["a"]).await.header("x-cache"), "hit");
    assert_eq!(clear(&mut one).await.json(), json!({"cleared": 1}));
    assert_eq!(embed(&mut one, &["a"]).await.header("x-cache"), "miss");
    // The other learns of it from its own watch: L1 is emptied though nobody asks it for anything.
    until(async || other.get("/cache/stats").await.json()["l1"]["size"] == 0).await;
}

#[tokio::test]
async fn what_was_computed_over_a_clear_is_answered_and_stored_nowhere() {
    let pair = Pair::start().await;
    pair.fake.hold();
    let mut one = pair.one().await;
    let address = pair.addresses[0];
    let asked =
        tokio::spawn(async move { embed(&mut Connection::open(address).await, &["a"]).await.rows().len() });
    pair.fake.called(1).await;
    clear(&mut one).await.json();
    pair.fake.release();
    assert_eq!(asked.await.unwrap(), 1);
    until(async || metric(&mut one, "l2_writes_total", "stale").await == 1).await;
    assert_eq!(embed(&mut one, &["a"]).await.header("x-cache"), "miss");
}

#[tokio::test]
async fn a_clear_that_does_not_reach_the_shard_is_an_error() {
    let Pair { fake: _fake, shard, addresses, _stop } = Pair::start().await;
    shard.stop().await;
    let answer = clear(&mut Connection::open(addresses[0]).await).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(answer.json()["error"].as_str().unwrap().contains("ask again"), "{answer:?}");
}

#[tokio::test]
async fn a_leader_that_leaves_while_the_shard_is_asked_strands_nobody() {
    let pair = Pair::start_with(&["--shard-timeout", "30"]).await;
    pair.shard.set(Mode::Silent);
    let ask = async |mut connection: Connection| embed(&mut connection, &["a"]).await;
    let leader = tokio::spawn(ask(pair.one().await));
    pair.shard.looked_up(1).await;
    let follower = tokio::spawn(ask(pair.one().await));
    let mut one = pair.one().await;
    until(async || metric(&mut one, "lookups_total", "coalesced").await == 1).await;
    leader.abort();
    pair.shard.set(Mode::Honest);
    assert_eq!(follower.await.unwrap().rows().len(), 1);
    assert_eq!(pair.fake.texts(), ["a"]);
}

#[tokio::test]
async fn a_frozen_shard_is_left_alone_without_a_request_having_to_find_out() {
    let pair = Pair::start_with(&["--shard-timeout", "30"]).await;
    pair.shard.set(Mode::Frozen);
    let mut one = pair.one().await;
    until(async || l2(&mut one).await["state"] == "down").await;
    assert_eq!(embed(&mut one, &["a"]).await.header("x-cache"), "miss");
    assert_eq!(pair.shard.lookups(), 0);
}

#[tokio::test]
async fn a_proxy_that_stops_stores_first_what_it_has_computed() {
    let (fake, shard) = (Fake::start().await, FakeShard::start().await);
    let (address, stop) = started(&fake, &shard, &[]).await;
    embed(&mut Connection::open(address).await, &["a"]).await;
    drop(stop);
    assert_eq!(shard.stored(1).await.len(), 1);
}

/// A proxy in front of an ml-base that nobody answers for.
async fn started_alone(shard: &FakeShard) -> (SocketAddr, Lifecycle, DropGuard) {
    // A port that nobody listens on: bound, and never accepted from.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let of_shard = shard.arguments();
    let arguments: Vec<&str> = of_shard.iter().map(String::as_str).collect();
    proxy(&format!("http://{}", silent.local_addr().unwrap()), &arguments).await
}

#[tokio::test]
async fn a_proxy_started_while_ml_base_is_away_serves_what_is_cached() {
    let Pair { fake, shard, addresses, _stop } = Pair::start().await;
    let computed = embed(&mut Connection::open(addresses[0]).await, &["a"]).await;
    shard.stored(1).await;
    shard.remembers("models").await;
    fake.stop().await;
    let (address, lifecycle, _alone) = started_alone(&shard).await;
    lifecycle.wait_for(State::Ready).await;
    let mut alone = Connection::open(address).await;
    let found = embed(&mut alone, &["a"]).await;
    assert_eq!(found.header("x-cache"), "hit");
    assert_eq!(found.json()["embeddings"], computed.json()["embeddings"]);
    assert_eq!(found.header("x-model-identity"), computed.header("x-model-identity"));
    let missing = alone.embed(&json!({"texts": ["b"]})).await;
    assert_eq!((missing.status, missing.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}

#[tokio::test]
async fn a_garbled_memo_leaves_a_proxy_waiting_for_ml_base() {
    let Pair { fake: _fake, shard, _stop, .. } = Pair::start().await;
    shard.remembers("models").await;
    shard.garble_memos();
    let (_address, lifecycle, _alone) = started_alone(&shard).await;
    // Asked for again, it was read and not believed.
    shard.recalled(2).await;
    assert_eq!(lifecycle.state(), State::Loading);
}

//! Several shards: each key has one owner, a shard that fails costs its own share, and a clear is owed to whoever missed it.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde_json::{Value, json};
use service::lifecycle::State;
use tokio_util::sync::DropGuard;
use tonic::Code;

use crate::{
    asking::{clear, embed, l2, metric, until},
    client::{Answer, Connection},
    fake::Fake,
    fake_shard::{BYTES, FakeShard, Mode},
    grid::proxy,
};

/// Texts that fall to each of three shards, whatever their ports.
const TEXTS: usize = 90;

fn texts(from: usize) -> Vec<String> {
    (from..from + TEXTS).map(|number| format!("text {number}")).collect()
}

/// The argument for these shards.
pub(crate) fn list<'a>(shards: impl IntoIterator<Item = &'a FakeShard>) -> String {
    let names: Vec<_> = shards.into_iter().map(|shard| shard.address.to_string()).collect();
    names.join(",")
}

/// One ml-base and three shards.
struct Shards {
    fake: Fake,
    shards: Vec<FakeShard>,
}

impl Shards {
    async fn start() -> Self {
        let mut shards = Vec::new();
        for _ in 0..3 {
            shards.push(FakeShard::start().await);
        }
        Self { fake: Fake::start().await, shards }
    }

    /// A ready proxy of all shards that has seen them.
    async fn proxy(&self, arguments: &[&str]) -> (Connection, SocketAddr, DropGuard) {
        self.proxy_of(&list(&self.shards), 3, arguments).await
    }

    async fn proxy_of(
        &self,
        list: &str,
        count: u64,
        arguments: &[&str],
    ) -> (Connection, SocketAddr, DropGuard) {
        let arguments = [&["--shards", list, "--shard-timeout", "30"], arguments].concat();
        let (address, lifecycle, stop) = proxy(&format!("http://{}", self.fake.address), &arguments).await;
        lifecycle.wait_for(State::Ready).await;
        let mut connection = Connection::open(address).await;
        until(async || l2(&mut connection).await["bytes"] == count * BYTES).await;
        (connection, address, stop)
    }

    /// Waits until so many vectors are stored, and says how many each holds.
    async fn stored(&self, count: usize) -> Vec<usize> {
        let held = || self.shards.iter().map(FakeShard::held).collect::<Vec<_>>();
        until(async || held().iter().sum::<usize>() == count).await;
        held()
    }
}

async fn ask(connection: &mut Connection, texts: &[String]) -> Answer {
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    embed(connection, &texts).await
}

async fn hits(connection: &mut Connection, texts: &[String]) -> usize {
    ask(connection, texts).await.header("x-cache-hits").parse().unwrap()
}

/// Those of the texts that are not found.
async fn missing(connection: &mut Connection, texts: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for text in texts {
        if hits(connection, std::slice::from_ref(text)).await == 0 {
            missing.push(text.clone());
        }
    }
    missing
}

async fn state_of(connection: &mut Connection, shard: &FakeShard) -> Value {
    let shards = l2(connection).await["shards"].clone();
    let name = shard.address.to_string();
    shards.as_array().unwrap().iter().find(|shard| shard["name"] == name).unwrap()["state"].clone()
}

#[tokio::test]
async fn every_text_has_one_owner_whatever_the_order_of_the_list_and_each_shard_is_asked_once() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    let computed = ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    assert!(held.iter().all(|held| *held > 0), "{held:?}");
    let backwards = list(grid.shards.iter().rev());
    let (mut other, _, _stop) = grid.proxy_of(&backwards, 3, &[]).await;
    let found = ask(&mut other, &texts(0)).await;
    assert_eq!((found.header("x-cache"), found.header("x-cache-hits")), ("hit", "90"));
    assert_eq!(found.json()["embeddings"], computed.json()["embeddings"]);
    // The first lookup of the first proxy asked the second in rank too, because it has just started.
    assert!(grid.shards.iter().all(|shard| shard.lookups() == 3), "one of each request, and one of the join");
}

#[tokio::test]
async fn stats_and_metrics_tell_the_shards_apart() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    let stats = l2(&mut one).await;
    assert_eq!(
        (&stats["state"], &stats["entries"], &stats["bytes"]),
        (&json!("up"), &json!(300), &json!(3 * BYTES))
    );
    for (shard, held) in grid.shards.iter().zip(held) {
        let name = shard.address.to_string();
        let shown = json!({"name": name, "state": "up", "entries": 100, "bytes": BYTES, "degraded": false});
        assert!(stats["shards"].as_array().unwrap().contains(&shown), "{stats}");
        let label = format!(r#"shard="{name}""#);
        until(async || metric(&mut one, "l2_writes_total", &label).await == held as u64).await;
        assert!(metric(&mut one, "l2_calls_total", &label).await >= 1);
        assert!(metric(&mut one, "l2_call_seconds_count", &label).await >= 1);
    }
}

#[tokio::test]
async fn a_lost_shard_costs_its_share_of_the_hits_and_nothing_else() {
    let mut grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    let computed = ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    let (mut other, _, _stop_other) = grid.proxy(&["--cache-entries-max", "0"]).await;
    let lost = grid.shards.remove(0);
    let address = lost.address;
    lost.stop().await;
    for _ in 0..10 {
        let found = ask(&mut other, &texts(0)).await;
        assert_eq!(found.header("x-cache-hits"), (TEXTS - held[0]).to_string());
        assert_eq!(found.json()["embeddings"], computed.json()["embeddings"]);
    }
    until(async || l2(&mut other).await["state"] == "partial").await;
    let of_lost = format!(r#"shard="{address}""#);
    assert_eq!(metric(&mut other, "l2_shard_up", &of_lost).await, 0);
    assert_eq!(metric(&mut other, "l2_shard_up", "").await, 2);
    let back = FakeShard::start_at(address).await;
    // What was computed while it was away waited for it.
    back.stored(held[0]).await;
    until(async || hits(&mut other, &texts(0)).await == TEXTS).await;
    assert_eq!(state_of(&mut other, &back).await, "up");
}

#[tokio::test]
async fn lies_of_one_shard_are_its_own() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    let computed = ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    for lie in [Mode::LieIdentity, Mode::LieBytes, Mode::Refuse(Code::DataLoss)] {
        grid.shards[1].set(lie);
        // The neighbour in rank would answer a lie as well as the owner does.
        let (mut other, _, _stop) = grid.proxy(&["--shard-join-window", "0"]).await;
        let found = ask(&mut other, &texts(0)).await;
        assert_eq!(found.header("x-cache-hits"), (TEXTS - held[1]).to_string(), "{lie:?}");
        assert_eq!(found.json()["embeddings"], computed.json()["embeddings"], "{lie:?}");
    }
}

#[tokio::test]
async fn texts_of_a_silent_shard_wait_for_it_and_others_do_not() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&["--shard-join-window", "0"]).await;
    ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    let (mut other, address, _stop) = grid.proxy(&["--shard-join-window", "0"]).await;
    grid.shards[2].set(Mode::Silent);
    let all = tokio::spawn(async move { hits(&mut Connection::open(address).await, &texts(0)).await });
    grid.shards[2].looked_up(2).await;
    // Those of the other shards are in L1 while the request still waits.
    until(async || other.get("/cache/stats").await.json()["l1"]["size"] == TEXTS - held[2]).await;
    assert!(!all.is_finished());
    grid.shards[2].set(Mode::Honest);
    assert_eq!(all.await.unwrap(), TEXTS);
}

#[tokio::test]
async fn one_shard_that_is_too_slow_is_left_alone_and_the_others_are_asked_on() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&["--shard-join-window", "0"]).await;
    ask(&mut one, &texts(0)).await;
    grid.stored(TEXTS).await;
    let list = list(&grid.shards);
    let quick = ["--shards", &list, "--shard-timeout", "0.05", "--shard-join-window", "0"];
    let (address, lifecycle, _stop) = proxy(&format!("http://{}", grid.fake.address), &quick).await;
    lifecycle.wait_for(State::Ready).await;
    let mut other = Connection::open(address).await;
    grid.shards[0].set(Mode::Silent);
    let slow = format!(r#"shard="{}",result="skipped""#, grid.shards[0].address);
    let mut from = TEXTS;
    until(async || {
        ask(&mut other, &texts(from)).await;
        from += TEXTS;
        metric(&mut other, "l2_calls_total", &slow).await > 0
    })
    .await;
    assert_eq!(state_of(&mut other, &grid.shards[0]).await, "down");
    assert_eq!(state_of(&mut other, &grid.shards[1]).await, "up");
    assert!(hits(&mut other, &texts(0)).await > 0);
}

#[tokio::test]
async fn a_clear_goes_to_every_shard() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    let (mut other, _, _stop_other) = grid.proxy(&[]).await;
    ask(&mut one, &texts(0)).await;
    grid.stored(TEXTS).await;
    assert_eq!(hits(&mut other, &texts(0)).await, TEXTS);
    assert_eq!(clear(&mut one).await.json(), json!({"cleared": TEXTS}));
    grid.stored(0).await;
    // Twice: what is copied from a shard that is still full to one that is empty goes with the second.
    assert!(grid.shards.iter().all(|shard| shard.clears() == 2));
    until(async || other.get("/cache/stats").await.json()["l1"]["size"] == 0).await;
    assert_eq!(hits(&mut other, &texts(0)).await, 0);
}

#[tokio::test]
async fn a_shard_that_missed_a_clear_is_cleared_before_it_is_asked_again() {
    let mut grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&["--cache-entries-max", "0"]).await;
    ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    let away = grid.shards.remove(1);
    let (address, name) = (away.address, away.address.to_string());
    let kept = away.stop().await;
    let of_it = missing(&mut one, &texts(0)).await;
    assert_eq!(of_it.len(), held[1]);
    let refused = clear(&mut one).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let message = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains(&name), "{message}");
    assert!(grid.shards.iter().all(|shard| !message.contains(&shard.address.to_string())), "{message}");
    // Whatever is asked until it is used again, no vector from before the clear is found.
    let back = FakeShard::start_with(kept, address).await;
    assert_eq!(back.held(), held[1]);
    until(async || {
        let old = hits(&mut one, &of_it).await;
        assert!(old == 0 || back.clears() > 0);
        state_of(&mut one, &back).await == "up"
    })
    .await;
    assert!(back.clears() >= 1);
    until(async || hits(&mut one, &of_it).await == of_it.len()).await;
}

#[tokio::test]
async fn a_proxy_started_while_ml_base_and_a_shard_are_away_learns_from_the_others_what_was_served() {
    let grid = Shards::start().await;
    let (mut one, _, _stop) = grid.proxy(&[]).await;
    let computed = ask(&mut one, &texts(0)).await;
    let held = grid.stored(TEXTS).await;
    let list = list(&grid.shards);
    let Shards { fake, mut shards } = grid;
    for shard in &shards {
        shard.remembers("models").await;
    }
    let ml_base_url = format!("http://{}", fake.address);
    fake.stop().await;
    shards.remove(0).stop().await;
    let arguments = ["--shards", &list, "--shard-timeout", "30"];
    let (address, lifecycle, _alone) = proxy(&ml_base_url, &arguments).await;
    lifecycle.wait_for(State::Ready).await;
    let mut alone = Connection::open(address).await;
    let mut found = 0;
    for (index, text) in texts(0).iter().enumerate() {
        let answer = alone.embed(&json!({"texts": [text]})).await;
        if answer.status == StatusCode::OK {
            assert_eq!(answer.json()["embeddings"][0], computed.json()["embeddings"][index]);
            found += 1;
        }
    }
    assert_eq!(found, TEXTS - held[0]);
}

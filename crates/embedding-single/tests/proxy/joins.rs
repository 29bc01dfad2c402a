//! Shards that come and go: by another list at a new proxy, or by a DNS name that is watched.

use std::{io, net::SocketAddr, sync::Arc};

use embedding_single::{Proxy, Resolve};
use futures::future::{BoxFuture, join_all};
use hyper::StatusCode;
use serde_json::json;
use service::lifecycle::State;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::{
    asking::{clear, embed, l2, metric, until},
    client::Connection,
    fake::Fake,
    fake_shard::{BYTES, FakeShard, Mode},
    grid::{config, proxy, serve},
};

const TEXTS: usize = 90;

fn texts() -> Vec<String> {
    (0..TEXTS).map(|number| format!("text {number}")).collect()
}

async fn hits(connection: &mut Connection, texts: &[String]) -> usize {
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    embed(connection, &texts).await.header("x-cache-hits").parse().unwrap()
}

/// The shards of a list that has grown by the last one: what was stored before lies at the others.
struct Grown {
    fake: Fake,
    shards: Vec<FakeShard>,
}

impl Grown {
    async fn start() -> Self {
        let mut shards = Vec::new();
        for _ in 0..3 {
            shards.push(FakeShard::start().await);
        }
        let grown = Self { fake: Fake::start().await, shards };
        let (mut before, _stop) = grown.proxy(2, &[]).await;
        assert_eq!(hits(&mut before, &texts()).await, 0);
        until(async || grown.held() == TEXTS).await;
        grown
    }

    fn held(&self) -> usize {
        self.shards.iter().map(FakeShard::held).sum()
    }

    /// A ready proxy without L1 that knows the first `count` shards.
    async fn proxy(&self, count: usize, arguments: &[&str]) -> (Connection, DropGuard) {
        let names: Vec<_> = self.shards[..count].iter().map(|shard| shard.address.to_string()).collect();
        let list = names.join(",");
        let own = ["--shards", &list, "--shard-timeout", "30", "--cache-entries-max", "0"];
        let url = format!("http://{}", self.fake.address);
        let (address, lifecycle, stop) = proxy(&url, &[&own, arguments].concat()).await;
        lifecycle.wait_for(State::Ready).await;
        let mut connection = Connection::open(address).await;
        until(async || l2(&mut connection).await["bytes"] == count as u64 * BYTES).await;
        (connection, stop)
    }
}

#[tokio::test]
async fn after_a_join_texts_are_found_at_their_owner_before_it_and_copied_to_the_new_one() {
    let grown = Grown::start().await;
    let (mut after, _stop) = grown.proxy(3, &[]).await;
    assert_eq!(hits(&mut after, &texts()).await, TEXTS);
    let asks = metric(&mut after, "l2_second_asks_total", "").await;
    assert!(asks > 0 && metric(&mut after, "l2_second_finds_total", "").await == asks);
    let moved = usize::try_from(asks).unwrap();
    // Not before the old owners have answered for a while: one of them could owe a clear.
    until(async || {
        assert_eq!(hits(&mut after, &texts()).await, TEXTS);
        grown.held() == TEXTS + moved
    })
    .await;
    let copied = grown.shards[2].stored(moved).await;
    assert!(copied.iter().all(|record| (1..=86_400_000).contains(&record.ttl_ms)));
    let asked = metric(&mut after, "l2_second_asks_total", "").await;
    assert_eq!(hits(&mut after, &texts()).await, TEXTS);
    assert_eq!(
        metric(&mut after, "l2_second_asks_total", "").await,
        asked,
        "it is the owner that answers now"
    );
    assert_eq!(grown.fake.texts().len(), TEXTS);
}

#[tokio::test]
async fn without_a_join_window_texts_that_moved_are_computed_again() {
    let grown = Grown::start().await;
    let (mut after, _stop) = grown.proxy(3, &["--shard-join-window", "0"]).await;
    let found = hits(&mut after, &texts()).await;
    assert!((1..TEXTS).contains(&found), "{found}");
    assert_eq!(metric(&mut after, "l2_second_asks_total", "").await, 0);
    assert_eq!(grown.fake.texts().len(), TEXTS + TEXTS - found);
}

#[tokio::test]
async fn a_copy_is_kept_no_longer_than_what_it_was_copied_from() {
    let grown = Grown::start().await;
    let (mut before, _stop) = grown.proxy(2, &[]).await;
    let short: Vec<_> = (0..TEXTS).map(|number| format!("short {number}")).collect();
    before.embed(&json!({"texts": short, "cache_ttl_seconds": 600})).await.rows();
    until(async || grown.held() == 2 * TEXTS).await;
    let (mut after, _stop) = grown.proxy(3, &[]).await;
    until(async || {
        assert_eq!(hits(&mut after, &short).await, TEXTS);
        grown.shards[2].held() > 0
    })
    .await;
    assert!(grown.shards[2].stored(1).await.iter().all(|record| record.ttl_ms <= 600_000));
}

/// A text of those that the third shard owns now, once copies are made.
async fn moved(grown: &Grown, after: &mut Connection) -> String {
    let mut moved = None;
    until(async || {
        for text in texts() {
            let before = metric(after, "l2_second_asks_total", "").await;
            assert_eq!(hits(after, std::slice::from_ref(&text)).await, 1);
            if metric(after, "l2_second_asks_total", "").await > before {
                moved = Some(text);
            }
        }
        grown.shards[2].held() > 0
    })
    .await;
    moved.unwrap()
}

#[tokio::test]
async fn what_was_read_at_an_old_owner_before_a_clear_is_not_copied_after_it() {
    let grown = Grown::start().await;
    let (mut after, _stop) = grown.proxy(3, &[]).await;
    let (mut other, _stop_other) = grown.proxy(3, &[]).await;
    let [one, two, new] = &grown.shards[..] else { panic!("there are three") };
    let text = [moved(&grown, &mut after).await];
    new.evict();
    let before = one.lookups() + two.lookups();
    [one, two].iter().for_each(|old| old.set(Mode::Tardy));
    let asked = tokio::spawn(async move { (hits(&mut after, &text).await, after, text) });
    until(async || one.lookups() + two.lookups() > before).await;
    assert_eq!(clear(&mut other).await.status, StatusCode::OK);
    // Both proxies ask every second: by then the one that waits knows the new generation too.
    new.probed(4).await;
    [one, two].iter().for_each(|old| old.set(Mode::Honest));
    let (found, mut after, text) = asked.await.unwrap();
    assert_eq!(found, 1, "it was asked for before the clear");
    until(async || metric(&mut after, "l2_writes_total", "stale").await > 0).await;
    assert_eq!((new.held(), hits(&mut after, &text).await), (0, 0));
}

/// A name whose addresses the test decides; none is a failure.
#[derive(Debug)]
struct Named(watch::Sender<Option<Vec<SocketAddr>>>, watch::Sender<usize>);

impl Resolve for Named {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        assert_eq!((host, port), ("shards.example", 50052));
        self.1.send_modify(|resolved| *resolved += 1);
        let addresses = self.0.borrow().clone();
        Box::pin(async { addresses.ok_or_else(|| io::Error::other("no such name")) })
    }
}

impl Named {
    fn set(&self, shards: &[&FakeShard]) {
        self.0.send_replace(Some(shards.iter().map(|shard| shard.address).collect()));
    }

    /// Waits until it was resolved twice more, so that what was said before is in force.
    async fn resolved(&self) {
        let mut resolved = self.1.subscribe();
        let before = *resolved.borrow();
        resolved.wait_for(|resolved| *resolved >= before + 2).await.unwrap();
    }
}

async fn named() -> (Fake, Arc<Named>, Connection, DropGuard) {
    let (fake, name) =
        (Fake::start().await, Arc::new(Named(watch::Sender::new(None), watch::Sender::default())));
    let arguments = [
        ["--shards", "dns:shards.example:50052"],
        ["--shard-resolve-interval", "0.02"],
        ["--shard-timeout", "30"],
        ["--cache-entries-max", "0"],
    ];
    let config = config(&format!("http://{}", fake.address), &arguments.concat());
    let (address, lifecycle, stop) = serve(Proxy::start_resolving(config, name.clone()).unwrap()).await;
    lifecycle.wait_for(State::Ready).await;
    (fake, name, Connection::open(address).await, stop)
}

async fn seen(connection: &mut Connection, count: usize) {
    until(async || {
        let l2 = l2(connection).await;
        l2["shards"].as_array().unwrap().len() == count && l2["bytes"] == count as u64 * BYTES
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_not_known_yet_costs_nothing_and_is_asked_for_again() {
    let (fake, name, mut connection, _stop) = named().await;
    assert_eq!(hits(&mut connection, &texts()).await, 0);
    let stats = l2(&mut connection).await;
    assert_eq!((&stats["state"], &stats["shards"]), (&json!("down"), &json!([])));
    let not_cleared = clear(&mut connection).await;
    assert_eq!(not_cleared.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        not_cleared.json()["error"].as_str().unwrap().contains("none of them is known yet"),
        "{not_cleared:?}"
    );
    let shard = FakeShard::start().await;
    name.set(&[&shard]);
    seen(&mut connection, 1).await;
    assert_eq!(hits(&mut connection, &texts()).await, 0);
    shard.stored(TEXTS).await;
    assert_eq!(hits(&mut connection, &texts()).await, TEXTS);
    assert_eq!(fake.texts().len(), 2 * TEXTS);
}

#[tokio::test]
async fn a_name_is_resolved_by_the_system() {
    let (fake, shard) = (Fake::start().await, FakeShard::start().await);
    let name = format!("dns:127.0.0.1:{}", shard.address.port());
    let (address, lifecycle, _stop) = proxy(&format!("http://{}", fake.address), &["--shards", &name]).await;
    lifecycle.wait_for(State::Ready).await;
    let mut connection = Connection::open(address).await;
    seen(&mut connection, 1).await;
    assert_eq!(l2(&mut connection).await["shards"][0]["name"], shard.address.to_string());
}

#[tokio::test]
async fn a_shard_that_joins_by_its_name_is_warm_and_one_that_leaves_takes_its_share() {
    let (fake, name, mut connection, _stop) = named().await;
    let shards = [FakeShard::start().await, FakeShard::start().await, FakeShard::start().await];
    let [one, other, new] = &shards;
    name.set(&[one, other]);
    seen(&mut connection, 2).await;
    assert_eq!(hits(&mut connection, &texts()).await, 0);
    until(async || one.held() + other.held() == TEXTS).await;
    name.set(&[new, other, one]);
    seen(&mut connection, 3).await;
    assert_eq!(hits(&mut connection, &texts()).await, TEXTS);
    assert_eq!(fake.texts().len(), TEXTS);
    let lookups = one.lookups();
    name.set(&[other, new]);
    seen(&mut connection, 2).await;
    let found = hits(&mut connection, &texts()).await;
    assert!((1..TEXTS).contains(&found), "{found}");
    assert_eq!(one.lookups(), lookups);
    let of_it = format!(r#"shard="{}""#, one.address);
    assert_eq!(metric(&mut connection, "l2_calls_total", &of_it).await, 0, "it is not shown any more");
}

#[tokio::test]
async fn several_shards_that_join_one_after_another_are_all_warm() {
    let (fake, name, mut connection, _stop) = named().await;
    let shards = join_all((0..5).map(|_| FakeShard::start())).await;
    let old = &shards[..2];
    name.set(&old.iter().collect::<Vec<_>>());
    seen(&mut connection, 2).await;
    assert_eq!(hits(&mut connection, &texts()).await, 0);
    until(async || old[0].held() + old[1].held() == TEXTS).await;
    for count in 3..=5 {
        name.set(&shards[..count].iter().collect::<Vec<_>>());
        seen(&mut connection, count).await;
    }
    assert_eq!(hits(&mut connection, &texts()).await, TEXTS);
    assert_eq!(fake.texts().len(), TEXTS);
    // Three of five own most of the texts now, and hold none of them.
    let found_before = metric(&mut connection, "l2_second_finds_total", "").await;
    assert!(found_before > TEXTS as u64 / 3, "{found_before}");
}

#[tokio::test]
async fn a_name_that_fails_keeps_the_last_list() {
    let (_fake, name, mut connection, _stop) = named().await;
    let shard = FakeShard::start().await;
    name.set(&[&shard]);
    seen(&mut connection, 1).await;
    hits(&mut connection, &texts()).await;
    shard.stored(TEXTS).await;
    for addresses in [None, Some(Vec::new())] {
        name.0.send_replace(addresses);
        name.resolved().await;
        assert_eq!(hits(&mut connection, &texts()).await, TEXTS);
    }
}

#[tokio::test]
async fn a_shard_that_was_not_in_the_list_at_a_clear_is_cleared_when_it_comes_back() {
    let (_fake, name, mut connection, _stop) = named().await;
    let (one, other) = (FakeShard::start().await, FakeShard::start().await);
    name.set(&[&one, &other]);
    seen(&mut connection, 2).await;
    hits(&mut connection, &texts()).await;
    until(async || one.held() + other.held() == TEXTS).await;
    name.set(&[&one]);
    seen(&mut connection, 1).await;
    clear(&mut connection).await.json();
    assert!(one.held() == 0 && other.held() > 0);
    name.set(&[&one, &other]);
    seen(&mut connection, 2).await;
    until(async || l2(&mut connection).await["state"] == "up").await;
    assert_eq!((other.clears(), other.held()), (1, 0));
    assert_eq!(hits(&mut connection, &texts()).await, 0);
}

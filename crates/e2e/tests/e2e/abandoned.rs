//! Work that nobody waits for any more never reaches the device.

use e2e::{Client, Door, Grid, until};
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::texts::{long_text, text};

/// Texts that keep the device busy: many batches of the full 2048 tokens, so that nothing else slips into one of them.
const BUSY_TEXTS: usize = 512;
/// Texts of the client that goes away.
const TEXTS: usize = 128;

async fn queued(ml_base: Door) -> u64 {
    ml_base.metric("ml_base_queue_texts").await
}

async fn abandoned(ml_base: Door) -> u64 {
    ml_base.metric("ml_base_texts_abandoned_total").await
}

/// A client whose texts keep the device busy until it is aborted.
async fn keep_busy(ml_base: Door) -> JoinHandle<()> {
    let mut client = ml_base.connect().await;
    let texts: Vec<String> = (0..BUSY_TEXTS).map(long_text).collect();
    let busy = tokio::spawn(async move { drop(client.embed(&texts).await) });
    until("the device is busy", async || (queued(ml_base).await > 0).then_some(())).await;
    busy
}

fn ask_in_background(mut client: Client, texts: Vec<String>) -> JoinHandle<()> {
    tokio::spawn(async move { drop(client.embed(&texts).await) })
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_client_that_went_away_are_dropped_before_the_device() {
    let builder = Grid::builder("abandoned::texts_of_a_client_that_went_away_are_dropped_before_the_device");
    // One call, so that all its texts are queued at one moment.
    let Some(grid) = builder.proxy(&["--ml-base-calls-max", "1"]).start().await else { return };
    let ml_base = grid.ml_base();
    let busy = keep_busy(ml_base).await;

    let before = queued(ml_base).await;
    let texts = (0..TEXTS).map(|number| text(number, 8)).collect();
    let client = ask_in_background(grid.connect().await, texts);
    // The device only takes away from the queue, so it grows by these texts alone.
    until("the texts wait for the device", async || (queued(ml_base).await > before).then_some(())).await;
    client.abort();
    // Nobody else goes away meanwhile: as many as were queued were dropped, so none of them was computed.
    until("they are dropped", async || (abandoned(ml_base).await == TEXTS as u64).then_some(())).await;
    assert!(!busy.is_finished(), "the device should have been busy to the end");

    busy.abort();
    until("the queue is empty", async || (queued(ml_base).await == 0).then_some(())).await;
    let dropped = abandoned(ml_base).await;
    assert!(dropped > TEXTS as u64, "the rest of the long list is dropped as well, not {dropped} in all");
    assert!(grid.computed().await < BUSY_TEXTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_long_queue_deadlines_are_kept_and_probes_and_cached_texts_answered() {
    let test = "abandoned::behind_a_long_queue_deadlines_are_kept_and_probes_and_cached_texts_answered";
    let Some(grid) = Grid::start(test).await else { return };
    grid.embed(&["cached"]).await.rows();
    let busy = keep_busy(grid.ml_base()).await;

    let mut client = grid.connect().await;
    let soon = [("x-request-timeout-ms", "200")];
    let late = client.ask_with(&soon, &json!({"inputs": "too late"})).await;
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT, "{}", late.shown());
    assert_eq!(late.json()["code"], "deadline_exceeded");
    let ml_base = grid.ml_base();
    until("the late text is dropped", async || (abandoned(ml_base).await == 1).then_some(())).await;

    assert_eq!(client.embed(&["cached"]).await.header("x-cache"), "hit");
    for door in [grid.proxy(), ml_base] {
        assert_eq!(door.get("/health").await.status, StatusCode::OK);
    }
    assert!(!busy.is_finished(), "the device should have been busy to the end");
    busy.abort();
}

//! What tests ask a proxy, over and over.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::interval;

use crate::client::{Answer, Connection};

/// Asks again and again until it is so.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    while !holds().await {
        ticks.tick().await;
    }
}

/// The vectors of `texts`, which have to be answered.
pub(crate) async fn embed(connection: &mut Connection, texts: &[&str]) -> Answer {
    let answer = connection.embed(&json!({"texts": texts})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer
}

/// What the proxy says of its second level.
pub(crate) async fn l2(connection: &mut Connection) -> serde_json::Value {
    connection.get("/cache/stats").await.json()["l2"].clone()
}

/// Asks for new texts until the shard is asked for them too.
pub(crate) async fn used_again(connection: &mut Connection) {
    let mut asked = 0;
    until(async || {
        asked += 1;
        embed(connection, &[&format!("trial {asked}")]).await;
        l2(connection).await["state"] == "up"
    })
    .await;
}

/// Clears the cache.
pub(crate) async fn clear(connection: &mut Connection) -> Answer {
    connection.send(Method::POST, "/cache/clear", &[], "").await
}

/// The sum of the lines of this metric that hold `label`.
pub(crate) async fn metric(connection: &mut Connection, name: &str, label: &str) -> u64 {
    let metrics = String::from_utf8(connection.get("/metrics").await.body.to_vec()).unwrap();
    let of_name =
        metrics.lines().filter_map(|line| line.strip_prefix("embedding_single_")?.strip_prefix(name));
    let values = of_name.filter(|rest| rest.starts_with([' ', '{']) && rest.contains(label));
    values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

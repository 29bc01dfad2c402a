//! What is computed once, and what it costs to ask again.

use std::sync::Arc;

use e2e::{Grid, goldens, largest_delta};
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use crate::texts::long_text;

#[tokio::test(flavor = "multi_thread")]
async fn one_text_from_64_clients_at_once_is_computed_once() {
    let Some(grid) = Grid::start("cache::one_text_from_64_clients_at_once_is_computed_once").await else {
        return;
    };
    let before = grid.computed().await;
    let together = Arc::new(Barrier::new(64));
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let (mut client, together) = (grid.connect().await, together.clone());
        clients.spawn(async move {
            together.wait().await;
            client.embed(&[long_text(1)]).await.rows_as_written().to_owned()
        });
    }
    let mut answers = clients.join_all().await;
    assert_eq!(grid.computed().await - before, 1);
    answers.dedup();
    assert_eq!(answers.len(), 1, "every client gets the same bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_all_hits_and_bit_equal_until_the_cache_is_cleared() {
    let test = "cache::a_repeated_request_is_all_hits_and_bit_equal_until_the_cache_is_cleared";
    let Some(grid) = Grid::start(test).await else { return };
    let texts: Vec<String> = goldens().into_iter().map(|golden| golden.text).collect();
    let count = texts.len() as u64;
    let first = grid.embed(&texts).await;
    assert_eq!((first.header("x-cache"), grid.computed().await), ("miss", count));

    let second = grid.embed(&texts).await;
    assert_eq!((second.header("x-cache"), grid.computed().await), ("hit", count));
    assert_eq!(second.json()["cached_count"], count);
    assert_eq!(second.rows_as_written(), first.rows_as_written());
    let as_matrix = grid.connect().await.ask(&json!({"inputs": texts})).await;
    assert_eq!(as_matrix.body, first.rows_as_written(), "both shapes write the same numbers");

    let cleared = grid.proxy().post("/cache/clear").await;
    assert_eq!(cleared.json(), json!({"cleared": count}));
    let third = grid.embed(&texts).await;
    assert_eq!((third.header("x-cache"), grid.computed().await), ("miss", 2 * count));
    for (index, (first, third)) in first.rows().iter().zip(third.rows()).enumerate() {
        let delta = largest_delta(first, &third);
        assert!(delta <= 1e-6, "text {index} is {delta:e} off when computed again");
    }
}

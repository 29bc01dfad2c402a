//! What comes from the cache, what is computed, and how often.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::Connection,
    fake::{WIDTH, vector},
    grid::Grid,
};

/// What a text gives by default.
pub(crate) fn unit(text: &str) -> Vec<f32> {
    let row = vector(text, WIDTH);
    let norm = row.iter().map(|number| number.powi(2)).sum::<f32>().sqrt();
    row.iter().map(|number| number / norm).collect()
}

pub(crate) fn assert_close(row: &[f32], expected: &[f32]) {
    assert_eq!(row.len(), expected.len());
    assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?} {expected:?}");
}

#[tokio::test]
async fn the_second_request_is_a_hit_bit_equal_and_not_computed() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    let body = json!({"texts": ["one", "two"]});
    let first = connection.embed(&body).await;
    let second = connection.embed(&body).await;
    assert_close(&first.rows()[0], &unit("one"));
    assert_eq!(first.json()["embeddings"].to_string(), second.json()["embeddings"].to_string());
    assert_eq!(
        (first.header("x-cache"), second.header("x-cache"), second.header("x-cache-hits")),
        ("miss", "hit", "2")
    );
    assert_eq!(grid.fake.texts().len(), 2);
}

#[tokio::test]
async fn the_answer_of_the_plan_has_its_fields_and_says_where_it_came_from() {
    let grid = Grid::start(&["--edition", "simple"]).await;
    let mut connection = grid.connect().await;
    let answer = connection.embed(&json!({"texts": ["one"], "normalize": true})).await;
    let mut json = answer.json();
    assert!(json["processing_time_ms"].as_f64().unwrap() > 0.0);
    assert_close(&answer.rows()[0], &unit("one"));
    json.as_object_mut().unwrap().remove("processing_time_ms");
    json.as_object_mut().unwrap().remove("embeddings");
    let rest = json!({"dimension": 4, "model": "fake/model", "cached_count": 0, "edition": "simple", "batch_size": 1});
    assert_eq!(json, rest);
    assert_eq!(answer.header("x-model-identity"), "aa".repeat(32));
    assert_eq!(answer.header("x-precision"), "float32");
    assert_eq!(
        ["x-tokenization-time", "x-queue-time", "x-inference-time"].map(|name| answer.header(name)),
        ["0.011", "0.022", "3.300"]
    );
    assert!(!answer.header("x-request-id").is_empty());
    let hit = connection.embed(&json!({"texts": ["one"]})).await;
    assert_eq!(hit.header("x-inference-time"), "0.000");
    assert!(
        hit.header("x-total-time").parse::<f64>().unwrap() >= hit.header("x-cache-time").parse().unwrap()
    );
}

#[tokio::test]
async fn a_partial_hit_keeps_the_order_of_the_request() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    connection.embed(&json!({"inputs": ["b", "d"]})).await;
    let answer = connection.embed(&json!({"inputs": ["a", "b", "c", "d", "e"]})).await;
    for (row, text) in answer.rows().iter().zip(["a", "b", "c", "d", "e"]) {
        assert_close(row, &unit(text));
    }
    assert_eq!((answer.header("x-cache"), answer.header("x-cache-hits")), ("partial", "2"));
}

#[tokio::test]
async fn repetitions_in_a_list_are_computed_once() {
    let grid = Grid::start(&[]).await;
    let answer = grid.connect().await.embed(&json!({"inputs": ["x", "y", "x", "x"]})).await;
    let rows = answer.rows();
    assert_eq!((rows.len(), &rows[0], &rows[0]), (4, &rows[2], &rows[3]));
    let mut computed = grid.fake.texts();
    computed.sort();
    assert_eq!(computed, ["x", "y"]);
}

#[tokio::test]
async fn one_text_from_64_clients_at_once_is_computed_once() {
    let grid = Grid::start(&[]).await;
    grid.fake.hold();
    let ask = async |mut connection: Connection| connection.embed(&json!({"inputs": "same"})).await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(tokio::spawn(ask(grid.connect().await)));
    }
    grid.fake.called(1).await;
    grid.fake.release();
    for client in clients {
        assert_close(&client.await.unwrap().rows()[0], &unit("same"));
    }
    assert_eq!(grid.fake.texts(), ["same"]);
}

#[tokio::test]
async fn one_cached_vector_serves_every_width_and_norm() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    connection.embed(&json!({"inputs": "one"})).await;
    let raw = connection.embed(&json!({"inputs": "one", "normalize": false})).await;
    assert_eq!(raw.rows()[0], vector("one", WIDTH));
    let cut = connection.embed(&json!({"inputs": "one", "dimensions": 2})).await;
    assert_eq!((cut.rows()[0].len(), cut.header("x-cache")), (2, "hit"));
    assert_eq!(grid.fake.texts().len(), 1);
}

#[tokio::test]
async fn a_width_that_was_not_trained_has_to_be_asked_for_by_name_and_may_be_forbidden() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    let whole = connection.embed(&json!({"inputs": "one", "normalize": false})).await.rows().remove(0);
    let asking = json!({"inputs": "one", "dimensions": 3, "allow_untrained_dimensions": true});
    let cut = connection.embed(&asking).await;
    assert_eq!((cut.rows()[0].len(), cut.header("x-cache")), (3, "hit"), "{whole:?}");
    let refused = connection.embed(&json!({"inputs": "one", "dimensions": 3})).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let wider = json!({"inputs": "one", "dimensions": 5, "allow_untrained_dimensions": true});
    assert_eq!(connection.embed(&wider).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let strict = Grid::start(&["--forbid-untrained-dimensions"]).await;
    let refused = strict.connect().await.embed(&asking).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["field"], "allow_untrained_dimensions");
}

#[tokio::test]
async fn served_width_is_the_configured_one_unless_asked_otherwise() {
    let grid = Grid::start(&["--dimensions", "2"]).await;
    let mut connection = grid.connect().await;
    assert_eq!(connection.embed(&json!({"inputs": "one"})).await.rows()[0].len(), 2);
    assert_eq!(connection.embed(&json!({"inputs": "one", "dimensions": 4})).await.rows()[0].len(), 4);
}

#[tokio::test]
async fn a_long_list_is_split_into_chunks_and_comes_back_in_order() {
    let grid = Grid::start(&["--chunk-texts-max", "7"]).await;
    let texts: Vec<String> = (0..300).map(|number| format!("{number} {}", "x".repeat(300))).collect();
    let answer = grid.connect().await.embed(&json!({"inputs": texts})).await;
    for (row, text) in answer.rows().iter().zip(&texts) {
        assert_close(row, &unit(text));
    }
    assert!(grid.fake.calls().iter().all(|call| call.len() <= 7));
    assert_eq!(grid.fake.texts().len(), 300);
}

#[tokio::test]
async fn no_cache_neither_reads_nor_writes_it() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    for header in ["no-cache", "max-age=0, No-Cache"] {
        let body = json!({"inputs": "one"}).to_string();
        let answer = connection.send(Method::POST, "/embed", &[("cache-control", header)], body).await;
        assert_eq!((answer.header("x-cache"), answer.rows().len()), ("bypass", 1));
    }
    assert_eq!(connection.embed(&json!({"inputs": "one"})).await.header("x-cache"), "miss");
    assert_eq!(grid.fake.texts().len(), 3);
}

#[tokio::test]
async fn clear_forgets_everything_and_says_how_much() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    connection.embed(&json!({"inputs": ["one", "two"]})).await;
    let cleared = connection.send(Method::POST, "/cache/clear", &[], "").await;
    assert_eq!(cleared.json(), json!({"cleared": 2}));
    assert_eq!(connection.embed(&json!({"inputs": ["one"]})).await.header("x-cache"), "miss");
}

#[tokio::test]
async fn stats_have_the_fields_of_the_plan_and_say_how_the_shard_is() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    let l2: Value = json!({
        "hits": 0, "misses": 0, "hit_rate": 0.0, "enabled": false, "backend": "sutra-storage",
        "state": "off", "entries": 0, "bytes": 0, "degraded": false, "shards": [],
    });
    let empty = json!({
        "l1": {"size": 0, "hits": 0, "misses": 0, "hit_rate": 0.0},
        "l2": l2,
        "total": {"requests": 0, "hits": 0, "misses": 0, "hit_rate": 0.0},
    });
    assert_eq!(connection.get("/cache/stats").await.json(), empty);
    connection.embed(&json!({"inputs": ["one"]})).await;
    connection.embed(&json!({"inputs": ["one", "two", "one"]})).await;
    connection.embed(&json!({"inputs": ["one"]})).await;
    let used = json!({
        "l1": {"size": 2, "hits": 2, "misses": 2, "hit_rate": 0.5},
        "l2": l2,
        "total": {"requests": 4, "hits": 2, "misses": 2, "hit_rate": 0.5},
    });
    assert_eq!(connection.get("/cache/stats").await.json(), used);
}

#[tokio::test]
async fn without_a_cache_everything_is_computed() {
    let grid = Grid::start(&["--cache-entries-max", "0"]).await;
    let mut connection = grid.connect().await;
    for _ in 0..2 {
        assert_eq!(connection.embed(&json!({"inputs": ["one"]})).await.header("x-cache"), "miss");
    }
    assert_eq!(grid.fake.texts().len(), 2);
}

#[tokio::test]
async fn metrics_name_lookups_calls_and_the_size_of_the_cache() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    connection.embed(&json!({"inputs": ["one"]})).await;
    connection.embed(&json!({"inputs": ["one"]})).await;
    let metrics = String::from_utf8(connection.get("/metrics").await.body.to_vec()).unwrap();
    for line in [
        r#"embedding_single_lookups_total{outcome="miss"} 1"#,
        r#"embedding_single_lookups_total{outcome="l1_hit"} 1"#,
        r#"embedding_single_ml_base_calls_total{result="ok"} 1"#,
        "embedding_single_l1_entries 1",
        "embedding_single_chunk_texts_count 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
    }
}

//! Bugs that other caches of embeddings have or had, each with a test that this one has it not.
//!
//! | who | what | test |
//! |---|---|---|
//! | LiteLLM #29284, #41002, #41005, #41020 | a partial hit repeats or swaps vectors | `litellm_29284_…` |
//! | LiteLLM #41799 | a text that is not cached gets the vector of one that is | `litellm_41799_…` |
//! | LiteLLM #20456, #20949 | answers that come out of order are cached under each other's keys | `litellm_20456_…` |
//! | LiteLLM #2990 | vectors come back in another order | `litellm_2990_…`, `cache::a_long_list_is_split_…` |
//! | LiteLLM #10424 | a hit counts no tokens | `litellm_10424_…` |
//! | LiteLLM #2943 | a hit is not in base64 | no test: this front writes numbers only |
//! | LiteLLM | what fails is cached, or takes its neighbours with it | `what_fails_in_one_call_…` |
//! | LiteLLM | `ttl` and `no-cache` of a request are not kept to | `a_text_is_kept_no_longer_…`, `no_cache_…` |
//! | infinity | a hit is computed all the same: cache and model race | `infinity_race_…` |
//! | infinity | the key is the text alone, whatever the model | `faults::a_new_identity_…`, `prompts` |
//! | infinity | a cut vector is not scaled to unit norm again | `infinity_cut_…` |
//! | infinity #546 | what nobody waits for is computed | `faults::a_client_that_hangs_up_…` |
//! | text-embeddings-inference | 429 without `Retry-After` | `gates::beyond_the_permits_…` |
//! | text-embeddings-inference #662 | a list takes a permit for each of its texts | `tei_662_…` |
//! | text-embeddings-inference #882 | texts of equal length change each other's vectors | `e2e`: `vectors` |
//! | Ollama, OpenAI's clients | a list over the limit is cut, or computed before it is refused | `a_list_over_the_limit_…` |

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    asking::until,
    cache::{assert_close, unit},
    client::{Answer, Connection},
    fake_shard::FakeShard,
    grid::Grid,
};

async fn ask(connection: &mut Connection, texts: &[impl AsRef<str>]) -> Answer {
    let texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
    connection.embed(&json!({"texts": texts})).await
}

fn assert_own_vectors(answer: &Answer, texts: &[impl AsRef<str>]) {
    let rows = answer.rows();
    assert_eq!(rows.len(), texts.len());
    for (row, text) in rows.iter().zip(texts) {
        assert_close(row, &unit(text.as_ref()));
    }
}

/// One proxy that finds hits in its own memory, and one that finds them in the shard.
async fn levels() -> [(FakeShard, Grid); 2] {
    let mut levels = Vec::new();
    for l1 in ["1000", "0"] {
        let shard = FakeShard::start().await;
        let port = shard.address.port().to_string();
        let arguments = ["--shard-port", &port, "--shard-timeout", "30", "--cache-entries-max", l1];
        let grid = Grid::start(&arguments).await;
        levels.push((shard, grid));
    }
    levels.try_into().ok().unwrap()
}

#[tokio::test]
async fn litellm_29284_a_partial_hit_gives_each_text_its_own_vector_once_whichever_are_cached() {
    for (shard, grid) in levels().await {
        let mut connection = grid.connect().await;
        // Asked until it is, so that every draft of this test has a generation to be stored under.
        until(async || {
            ask(&mut connection, &["first"]).await;
            shard.held() == 1
        })
        .await;
        let mut cached = 1;
        for mask in 0..32_usize {
            let texts: Vec<_> = (0..5).map(|number| format!("{number} of {mask}")).collect();
            let before: Vec<_> =
                (0..5).filter(|number| mask & (1 << number) != 0).map(|number| &texts[number]).collect();
            if !before.is_empty() {
                ask(&mut connection, &before).await.rows();
            }
            cached += before.len();
            shard.stored(cached).await;
            let asked: Vec<_> = [0, 1, 2, 2, 3, 0, 4].map(|number| &texts[number]).to_vec();
            let answer = ask(&mut connection, &asked).await;
            assert_own_vectors(&answer, &asked);
            let hits = asked.iter().filter(|text| before.contains(text)).count();
            assert_eq!(answer.header("x-cache-hits"), hits.to_string(), "mask {mask:05b}");
            assert_eq!(answer.json()["cached_count"], hits);
            cached += 5 - before.len();
            shard.stored(cached).await;
        }
    }
}

#[tokio::test]
async fn litellm_41799_only_texts_that_are_not_cached_are_computed_and_get_what_was_computed() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    ask(&mut connection, &["b", "d"]).await.rows();
    let asked = ["a", "b", "c", "d", "e"];
    assert_own_vectors(&ask(&mut connection, &asked).await, &asked);
    let mut computed = grid.fake.texts();
    computed.sort();
    assert_eq!(computed, asked);
}

#[tokio::test]
async fn litellm_20456_answers_out_of_order_are_kept_under_their_own_keys() {
    let grid = Grid::start(&["--chunk-texts-max", "1", "--ml-base-calls-max", "8"]).await;
    let asked = ["first", "second", "third", "fourth"];
    grid.fake.hold_texts(&["first", "third"]);
    let mut client = grid.connect().await;
    let answer = tokio::spawn(async move { ask(&mut client, &asked).await });
    let mut connection = grid.connect().await;
    let kept = async |connection: &mut Connection, count: usize| {
        until(async || connection.get("/cache/stats").await.json()["l1"]["size"] == count).await;
    };
    kept(&mut connection, 2).await;
    grid.fake.hold_texts(&["first"]);
    kept(&mut connection, 3).await;
    grid.fake.hold_texts(&[]);
    assert_own_vectors(&answer.await.unwrap(), &asked);
    for text in asked {
        let hit = ask(&mut connection, &[text]).await;
        assert_eq!(hit.header("x-cache"), "hit");
        assert_own_vectors(&hit, &[text]);
    }
}

#[tokio::test]
async fn litellm_2990_vectors_come_back_in_the_order_of_the_texts_and_not_of_the_keys() {
    for (shard, grid) in levels().await {
        let mut connection = grid.connect().await;
        let texts: Vec<_> = (0..64).map(|number| format!("text {number}")).collect();
        assert_own_vectors(&ask(&mut connection, &texts).await, &texts);
        let backwards: Vec<_> = texts.iter().rev().collect();
        assert_own_vectors(&ask(&mut connection, &backwards).await, &backwards);
        drop(shard);
    }
}

#[tokio::test]
async fn litellm_10424_a_hit_counts_the_tokens_that_its_computation_counted() {
    for (shard, grid) in levels().await {
        let mut connection = grid.connect().await;
        until(async || {
            ask(&mut connection, &["first"]).await;
            shard.held() == 1
        })
        .await;
        let texts = ["a", "b", "a"];
        let computed = ask(&mut connection, &texts).await;
        assert_eq!((computed.header("x-cache"), computed.header("x-tokens")), ("miss", "9"));
        shard.stored(3).await;
        let hit = ask(&mut connection, &texts).await;
        assert_eq!((hit.header("x-cache"), hit.header("x-tokens")), ("hit", "9"));
        let partial = ask(&mut connection, &["a", "new"]).await;
        assert_eq!((partial.header("x-cache"), partial.header("x-tokens")), ("partial", "6"));
    }
}

#[tokio::test]
async fn what_fails_in_one_call_is_not_cached_and_what_succeeds_in_others_is() {
    let grid = Grid::start(&["--chunk-texts-max", "1"]).await;
    let mut connection = grid.connect().await;
    let failed = ask(&mut connection, &["a", "nan", "b"]).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(failed.json()["text_index"], 1);
    let hit = ask(&mut connection, &["b", "a"]).await;
    assert_eq!(hit.header("x-cache"), "hit");
    assert_own_vectors(&hit, &["b", "a"]);
    let again = ask(&mut connection, &["nan"]).await;
    assert_eq!(again.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(grid.fake.texts().iter().filter(|text| *text == "nan").count(), 2);
}

#[tokio::test]
async fn a_text_is_kept_no_longer_than_its_caller_wants_and_its_neighbours_are() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    ask(&mut connection, &["kept"]).await.rows();
    connection.embed(&json!({"texts": ["short", "kept"], "cache_ttl_seconds": 1})).await.rows();
    until(async || ask(&mut connection, &["short"]).await.header("x-cache") == "miss").await;
    assert_eq!(ask(&mut connection, &["kept"]).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn no_cache_computes_anew_and_leaves_what_is_cached_as_it_is() {
    for (shard, grid) in levels().await {
        let mut connection = grid.connect().await;
        until(async || {
            ask(&mut connection, &["a"]).await;
            shard.held() == 1
        })
        .await;
        let (before, lookups) = (grid.fake.texts().len(), shard.lookups());
        let body = json!({"texts": ["a", "b"]}).to_string();
        let headers = [("cache-control", "no-cache")];
        let bypass = connection.send(Method::POST, "/embed", &headers, body).await;
        assert_eq!(bypass.header("x-cache"), "bypass");
        assert_own_vectors(&bypass, &["a", "b"]);
        assert_eq!((grid.fake.texts().len(), shard.lookups()), (before + 2, lookups));
        let after = ask(&mut connection, &["a", "b"]).await;
        assert_eq!((after.header("x-cache"), after.header("x-cache-hits")), ("partial", "1"));
    }
}

#[tokio::test]
async fn infinity_race_a_hit_is_not_computed() {
    for (shard, grid) in levels().await {
        let mut connection = grid.connect().await;
        until(async || {
            ask(&mut connection, &["a"]).await;
            shard.held() == 1
        })
        .await;
        let before = grid.fake.texts().len();
        // A computation that was begun would be seen, for it could not end.
        grid.fake.hold();
        for _ in 0..10 {
            assert_eq!(ask(&mut connection, &["a"]).await.header("x-cache"), "hit");
        }
        assert_eq!(grid.fake.texts().len(), before);
    }
}

#[tokio::test]
async fn infinity_cut_vectors_have_unit_norm_and_one_full_vector_is_cached_for_all_widths() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    for cached in ["miss", "hit"] {
        let cut = connection.embed(&json!({"texts": ["a"], "dimensions": 2})).await;
        let norm = cut.rows()[0].iter().map(|number| number.powi(2)).sum::<f32>();
        assert_eq!(cut.header("x-cache"), cached);
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
    }
    assert_own_vectors(&ask(&mut connection, &["a"]).await, &["a"]);
    assert_eq!(grid.fake.texts(), ["a"]);
}

#[tokio::test]
async fn tei_662_a_list_takes_one_permit_as_a_text_does() {
    let grid = Grid::start(&["--requests-max", "1"]).await;
    let texts: Vec<_> = (0..100).map(|number| format!("text {number}")).collect();
    assert_own_vectors(&ask(&mut grid.connect().await, &texts).await, &texts);
}

#[tokio::test]
async fn a_list_over_the_limit_is_refused_whole_before_anything_is_computed_and_one_at_it_is_served_whole() {
    let grid = Grid::start(&["--request-texts-max", "100"]).await;
    let mut connection = grid.connect().await;
    let texts: Vec<_> = (0..101).map(|number| format!("text {number}")).collect();
    let refused = ask(&mut connection, &texts).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(refused.json()["error"].as_str().unwrap().contains("is 100"), "{refused:?}");
    assert_eq!(grid.fake.texts(), [""; 0]);
    assert_own_vectors(&ask(&mut connection, &texts[1..]).await, &texts[1..]);
}

//! Several models in one ml-base, behind one proxy: each text gets the vector of the model it named, whatever is loaded.

use e2e::{Answer, Client, Door, Grid, Program, TinyModel, largest_delta, until};
use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::programs::start_ml_base;

const TEXTS: [&str; 3] = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10"];
/// Only the order of additions may differ.
const TOLERANCE: f32 = 1e-5;

/// Two models of different widths.
fn models() -> [TinyModel; 2] {
    [TinyModel::new(1, 2), TinyModel::new(2, 3)]
}

/// What a model gives for the texts where it is the only one.
async fn alone(model: &TinyModel) -> Vec<Vec<f32>> {
    let ml_base = start_ml_base(model.path(), &["--port", "0"]);
    ml_base.ready().await.embed(&TEXTS).await.rows()
}

async fn ask(client: &mut Client, model: &TinyModel, texts: &[&str]) -> Answer {
    client.ask(&json!({"inputs": texts, "model": model.id()})).await
}

fn assert_same(rows: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(rows.len(), expected.len(), "{what}");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row.len(), expected.len(), "{what}");
        let delta = largest_delta(row, expected);
        assert!(delta <= TOLERANCE, "{what} is {delta:e} off");
    }
}

async fn unloads(door: Door, model: &TinyModel) -> u64 {
    door.metric_of("ml_base_model_unloads_total", model.id()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_behind_one_proxy_each_give_their_own_vectors_and_their_own_hits() {
    let [first, second] = models();
    let expected = [alone(&first).await, alone(&second).await];
    let grid = Grid::of_model(first.path()).ml_base(&["--models", second.argument()]).start().await.unwrap();
    let mut client = grid.connect().await;
    let mut identities = Vec::new();
    for cached in ["miss", "hit"] {
        for (model, expected) in [&first, &second].into_iter().zip(&expected) {
            let answer = ask(&mut client, model, &TEXTS).await;
            assert_same(&answer.rows(), expected, model.id());
            assert_eq!(answer.header("x-cache"), cached, "{}", model.id());
            identities.push(answer.header("x-model-identity").to_owned());
        }
    }
    assert_ne!(identities[0], identities[1]);
    assert_eq!(identities[..2], identities[2..]);
    let unnamed = client.embed(&TEXTS).await;
    assert_eq!(unnamed.header("x-cache"), "hit", "no name means the default model");
    assert_eq!(unnamed.header("x-model-identity"), identities[0]);
    let info = client.get("/info").await.json();
    assert_eq!(info["models"][0]["identity"], identities[0]);
    assert_eq!(info["models"][1]["identity"], identities[1]);
    assert_eq!(grid.computed().await, 6);
    let door = grid.ml_base();
    assert_eq!(door.metric_of("ml_base_texts_total", second.id()).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_told_of_before_it_is_loaded_and_loaded_when_it_is_named() {
    let [first, second] = models();
    let grid = Grid::of_model(first.path()).ml_base(&["--models", second.argument()]).start().await.unwrap();
    let loaded = async || {
        let info = grid.ml_base().get("/info").await.json();
        let models = info["models"].as_array().unwrap().clone();
        models.iter().map(|model| model["is_loaded"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(loaded().await, [true, false]);
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (mut client, id) = (grid.ml_base().connect().await, second.id().to_owned());
        clients.spawn(async move { client.ask(&json!({"inputs": "w1", "model": id})).await });
    }
    for answer in clients.join_all().await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.shown());
    }
    assert_eq!(loaded().await, [true, true]);
    assert_eq!(grid.ml_base().metric_of("ml_base_model_load_seconds_count", second.id()).await, 1);
    let unknown = grid.ml_base().connect().await.ask(&json!({"inputs": "w1", "model": "no"})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.shown().contains(second.id()), "{}", unknown.shown());
}

/// Asks for the models by turns until the second one was unloaded under it often enough.
async fn interleave(door: Door, number: usize, ids: [String; 2], expected: [Vec<Vec<f32>>; 2]) {
    let mut client = door.connect().await;
    for round in 0..60 {
        let which = (number + round / 3) % 2;
        let asked = (number + round) % TEXTS.len();
        let body = json!({"inputs": [TEXTS[asked]], "model": ids[which]});
        let answer = client.ask_with(&[("cache-control", "no-cache")], &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.shown());
        assert_same(&answer.rows(), &expected[which][asked..=asked], &ids[which]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_unloaded_and_loaded_again_under_traffic_without_an_error() {
    let [first, second] = models();
    let expected = [alone(&first).await, alone(&second).await];
    // So short that the model is idle for as long between two calls.
    let arguments = ["--models", second.argument(), "--model-unload-timeout", "0.0001"];
    let grid = Grid::of_model(first.path()).ml_base(&arguments).start().await.unwrap();
    let ids = [first.id().to_owned(), second.id().to_owned()];
    let mut clients = JoinSet::new();
    for number in 0..4 {
        clients.spawn(interleave(grid.proxy(), number, ids.clone(), expected.clone()));
    }
    clients.join_all().await;
    until("the second model was unloaded", async || {
        (unloads(grid.ml_base(), &second).await > 0).then_some(())
    })
    .await;
    let mut client = grid.connect().await;
    let again = json!({"inputs": TEXTS, "model": second.id()});
    let answer = client.ask_with(&[("cache-control", "no-cache")], &again).await;
    assert_same(&answer.rows(), &expected[1], "once more");
    assert!(grid.ml_base().metric_of("ml_base_model_load_seconds_count", second.id()).await > 1);
    assert_eq!(unloads(grid.ml_base(), &first).await, 0, "the default model stays");
}

/// Words of a table of 64 MiB.
const MANY_WORDS: usize = (64 << 20) / (64 * size_of::<f32>());
/// Well over half of the table: what is given back is not all, for an allocator keeps some.
const GIVEN_BACK_BYTES: u64 = 40 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_unloaded_model_gives_its_memory_back() {
    let (small, large) = (TinyModel::new(1, 2), TinyModel::with_words(2, 2, MANY_WORDS));
    let arguments = ["--port", "0", "--models", large.argument(), "--model-unload-timeout", "1"];
    let ml_base: Program = start_ml_base(small.path(), &arguments);
    let door = ml_base.ready().await;
    let before = ml_base.memory().resident_bytes;
    // On a machine that is busy it may be unloaded again before it is looked at.
    let loaded = until("it is seen loaded", async || {
        ask(&mut door.connect().await, &large, &["w1"]).await.rows();
        let resident = ml_base.memory().resident_bytes;
        (door.metric_of("ml_base_model_loaded", large.id()).await == 1).then_some(resident)
    })
    .await;
    assert!(loaded > before + GIVEN_BACK_BYTES, "{before} bytes before, {loaded} loaded");
    until("the memory is given back", async || {
        (ml_base.memory().resident_bytes + GIVEN_BACK_BYTES < loaded).then_some(())
    })
    .await;
    // Counted when it is done: its memory is seen to go before.
    until("the unload is counted", async || (unloads(door, &large).await >= 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_fits_refuses_the_start_with_need_and_limit() {
    let [first, second] = models();
    let arguments = ["--port", "0", "--models", second.argument(), "--models-memory-bytes-max", "1000000"];
    let mut ml_base = start_ml_base(first.path(), &arguments);
    assert_eq!(ml_base.end().await.code(), Some(1), "{}", ml_base.log());
    let said = ml_base.log();
    assert!(
        said.contains("bytes of memory beside the") && said.contains("--models-memory-bytes-max is 1000000"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn default_prompt_of_a_model_is_part_of_what_its_vectors_are_found_by() {
    let prompts = json!({"prompts": {"query": "w9 w9 ", "plain": ""}, "default_prompt_name": "query"});
    let model = TinyModel::new(1, 2).with_file("config_sentence_transformers.json", &prompts);
    let grid = Grid::of_model(model.path()).start().await.unwrap();
    let mut client = grid.connect().await;
    let default = client.ask(&json!({"inputs": "w1"})).await;
    let plain = client.ask(&json!({"inputs": "w1", "prompt_name": "plain"})).await;
    let by_hand = client.ask(&json!({"inputs": "w9 w9 w1", "prompt_name": ""})).await;
    assert_eq!([&default, &plain, &by_hand].map(|answer| answer.header("x-cache")), ["miss"; 3]);
    assert_same(&default.rows(), &by_hand.rows(), "the prompt and the text");
    assert!(largest_delta(&default.rows()[0], &plain.rows()[0]) > 1e-3);
    let direct = grid.ml_base().connect().await.ask(&json!({"inputs": "w1"})).await;
    assert_same(&direct.rows(), &default.rows(), "ml-base's own door");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_width_that_a_model_was_not_trained_for_refuses_the_start_with_those_trained() {
    let [first, second] = models();
    let arguments = ["--port", "0", "--models", second.argument(), "--dimensions", "64"];
    let mut ml_base = start_ml_base(first.path(), &arguments);
    assert_eq!(ml_base.end().await.code(), Some(1), "{}", ml_base.log());
    let said = ml_base.log();
    assert!(
        said.contains(second.id()) && said.contains("`dimensions` is 64, the model was trained for 96"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_width_that_was_not_trained_is_the_same_at_both_doors() {
    let model = TinyModel::new(1, 2);
    let grid = Grid::of_model(model.path()).start().await.unwrap();
    let asking = json!({"inputs": TEXTS, "dimensions": 10, "allow_untrained_dimensions": true});
    let [proxy, direct] =
        [grid.connect().await.ask(&asking).await, grid.ml_base().connect().await.ask(&asking).await];
    assert_eq!(proxy.rows()[0].len(), 10);
    assert_same(&proxy.rows(), &direct.rows(), "cut to 10");
    for mut client in [grid.connect().await, grid.ml_base().connect().await] {
        let answer = client.ask(&json!({"inputs": TEXTS, "dimensions": 10})).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.shown());
        assert!(answer.shown().contains("the model was trained for 64"), "{}", answer.shown());
    }
}

//! ml-base is killed under load, and started again: nobody hangs, and nobody has to be told.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{Door, Load, LoadPlan, largest_delta, model_dir, until};
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    programs::{own_host, start_ml_base, start_proxy},
    texts::text,
};

const CACHED: [&str; 3] = ["a cached text", "another one", "the third"];
/// More than ml-base can compute.
const PLAN: LoadPlan = LoadPlan {
    new_clients: 16,
    cached_clients: 1,
    pace: Duration::from_millis(10),
    texts: |number| vec![text(number * 2, 60), text(number * 2 + 1, 20)],
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_ml_base_leaves_nobody_hanging_and_is_used_again_once_it_is_back() {
    let test = "killed::killed_under_load_ml_base_leaves_nobody_hanging_and_is_used_again_once_it_is_back";
    let Some(model) = model_dir(test) else { return };
    let host = own_host();
    let mut ml_base = start_ml_base(&model, &["--host", &host, "--port", "0"]);
    let door = ml_base.ready().await;
    let program = start_proxy(door, &[]);
    let proxy = program.ready().await;

    let load = Load::start(proxy, PLAN).await;
    load.until_each("every client is answered", StatusCode::OK).await;
    until("the device has work", async || (door.metric("ml_base_queue_texts").await > 0).then_some(())).await;
    ml_base.signal(Signal::KILL);
    ml_base.end().await;
    load.until_each("every client is refused", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(proxy.get("/health").await.status, StatusCode::OK, "cached texts are still served");

    let port = door.0.port().to_string();
    let again = start_ml_base(&model, &["--host", &host, "--port", &port]);
    assert_eq!(again.ready().await, door);
    load.until_each("every client is answered again", StatusCode::OK).await;
    let figures = load.stop().await;
    assert_eq!(figures.failed(), figures.refused(), "{figures}");
}

/// The model with another pooling, which is another vector space.
fn with_cls_pooling(model: &Path) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cls");
    std::fs::create_dir_all(directory.join("1_Pooling")).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::os::unix::fs::symlink(model.join(file), directory.join(file)).unwrap();
    }
    let pooling = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    std::fs::write(directory.join("1_Pooling/config.json"), pooling).unwrap();
    std::fs::write(directory.join("sentence_bert_config.json"), r#"{"max_seq_length": 256}"#).unwrap();
    (parent, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_a_replaced_model_never_meet_those_of_its_successor() {
    let test = "killed::vectors_of_a_replaced_model_never_meet_those_of_its_successor";
    let Some(model) = model_dir(test) else { return };
    let host = own_host();
    let mut ml_base = start_ml_base(&model, &["--host", &host, "--port", "0"]);
    let door = ml_base.ready().await;
    let program = start_proxy(door, &[]);
    let proxy = program.ready().await;
    let old = proxy.embed(&CACHED).await;
    ml_base.signal(Signal::TERM);
    assert!(ml_base.end().await.success());

    let (_parent, successor) = with_cls_pooling(&model);
    let port = door.0.port().to_string();
    let ml_base = start_ml_base(&successor, &["--host", &host, "--port", &port]);
    let identity = door_identity(ml_base.ready().await).await;
    assert_ne!(identity, old.header("x-model-identity"));

    // The new text cannot be computed under the old identity, so the cached ones have to change with it.
    let texts = [CACHED[0], CACHED[1], CACHED[2], "a new text"];
    let answer = proxy.embed(&texts).await;
    assert_eq!(answer.header("x-model-identity"), identity, "{}", answer.shown());
    let right = door.embed(&texts).await.rows();
    for ((row, right), text) in answer.rows().iter().zip(&right).zip(texts) {
        assert!(largest_delta(row, right) <= 1e-6, "{text:?} is of another model");
    }
    assert!(largest_delta(&old.rows()[0], &right[0]) > 1e-2, "the two models differ");
    assert_eq!(proxy.connect().await.ask(&json!({"texts": texts})).await.header("x-cache"), "hit");
}

async fn door_identity(ml_base: Door) -> String {
    ml_base.get("/info").await.json()["models"][0]["identity"].as_str().unwrap().to_owned()
}

//! ml-base is killed under load, and started again: nobody hangs, and nobody has to be told.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{Answer, Door, largest_delta, model_dir, until};
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::json;
use tokio::{task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    programs::{own_host, start_ml_base, start_proxy},
    texts::text,
};

const CLIENTS: usize = 16;
const CACHED: [&str; 3] = ["a cached text", "another one", "the third"];
/// embedding-single's own limit for a request, and what a loaded machine may add.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30 + 10);
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(10);

/// How often one client was answered, and refused.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    refused: AtomicUsize,
}

impl Tally {
    fn count(&self, answer: &Answer, rows: usize) {
        match answer.status {
            StatusCode::OK => {
                assert_eq!(answer.rows().len(), rows);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let seconds: u32 = answer.header("retry-after").parse().unwrap();
                assert!(seconds >= 1, "{}", answer.shown());
                assert!(answer.json()["error"].is_string(), "{}", answer.shown());
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            _ => panic!("neither an answer nor a refusal: {}", answer.shown()),
        }
    }
}

/// Clients that ask and ask until they are told to stop.
struct Load {
    clients: JoinSet<()>,
    tallies: Vec<Arc<Tally>>,
    stop: CancellationToken,
}

impl Load {
    fn start(proxy: Door) -> Self {
        let mut load = Self { clients: JoinSet::new(), tallies: Vec::new(), stop: CancellationToken::new() };
        for client in 0..CLIENTS {
            let tally = Arc::new(Tally::default());
            load.tallies.push(tally.clone());
            load.clients.spawn(ask_for_new_texts(proxy, client, tally, load.stop.clone()));
        }
        load.clients.spawn(ask_for_cached_texts(proxy, load.stop.clone()));
        load
    }

    /// Waits until each client has been counted once more than now.
    async fn until_each(&self, what: &str, count: impl Fn(&Tally) -> &AtomicUsize) {
        let now = || self.tallies.iter().map(|tally| count(tally).load(Ordering::Relaxed));
        let before: Vec<_> = now().collect();
        let is_reached = || now().zip(&before).all(|(now, before)| now > *before);
        until(what, async || is_reached().then_some(())).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        // Panics as a client did.
        self.clients.join_all().await;
    }
}

async fn ask_for_new_texts(proxy: Door, client: usize, tally: Arc<Tally>, stop: CancellationToken) {
    let mut connection = proxy.connect().await;
    let mut pace = interval(PACE);
    for round in 0.. {
        pace.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let first = (round * CLIENTS + client) * 2;
        let asked = Instant::now();
        let answer = connection.embed(&[text(first, 60), text(first + 1, 20)]).await;
        assert!(asked.elapsed() <= ANSWER_TIME_MAX, "after {:?}: {}", asked.elapsed(), answer.shown());
        tally.count(&answer, 2);
    }
}

async fn ask_for_cached_texts(proxy: Door, stop: CancellationToken) {
    let mut connection = proxy.connect().await;
    let mut pace = interval(PACE);
    while !stop.is_cancelled() {
        pace.tick().await;
        let answer = connection.embed(&CACHED).await;
        assert_eq!((answer.status, answer.header("x-cache")), (StatusCode::OK, "hit"), "{}", answer.shown());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_ml_base_leaves_nobody_hanging_and_is_used_again_once_it_is_back() {
    let test = "killed::killed_under_load_ml_base_leaves_nobody_hanging_and_is_used_again_once_it_is_back";
    let Some(model) = model_dir(test) else { return };
    let host = own_host();
    let mut ml_base = start_ml_base(&model, &["--host", &host, "--port", "0"]);
    let door = ml_base.ready().await;
    let program = start_proxy(door, &[]);
    let proxy = program.ready().await;
    proxy.embed(&CACHED).await.rows();

    let load = Load::start(proxy);
    load.until_each("every client is answered", |tally| &tally.answered).await;
    until("the device has work", async || (door.metric("ml_base_queue_texts").await > 0).then_some(())).await;
    ml_base.signal(Signal::KILL);
    ml_base.end().await;
    load.until_each("every client is refused", |tally| &tally.refused).await;
    assert_eq!(proxy.get("/health").await.status, StatusCode::OK, "cached texts are still served");

    let port = door.0.port().to_string();
    let again = start_ml_base(&model, &["--host", &host, "--port", &port]);
    assert_eq!(again.ready().await, door);
    load.until_each("every client is answered again", |tally| &tally.answered).await;
    load.stop().await;
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
    ml_base.get("/info").await.json()["model"]["identity"].as_str().unwrap().to_owned()
}

//! Tests of the keeper on a loader that computes nothing, on a clock that stands still unless it is moved.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc as threads,
    },
    thread,
};

use engine::{Compute, Pooling};
use prometheus_client::registry::Registry;
use protocol::{error::ErrorCode, inference::PrecisionClass};
use tokio::time::{advance, sleep};

use super::*;
use crate::{
    intake::{Intake, Tokenizer, TokenizerLimits},
    metrics::Metrics,
    model::{Case, Identity, ModelFiles, Sha256, Values},
    queue::{Queue, QueueLimits},
    serving::Described,
};

const NEED_BYTES: u64 = 10;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Loads models whose workers throw away what they get, and counts.
struct Fake {
    intake: Arc<Intake>,
    loads: Mutex<Vec<String>>,
    /// What the next loads fail with.
    failures: Mutex<Vec<&'static str>>,
    /// Where a load waits, once.
    gate: Mutex<Option<threads::Receiver<()>>>,
    workers: Arc<AtomicUsize>,
}

impl Loader for Fake {
    fn load(&self, model: &Served) -> anyhow::Result<Loaded> {
        if let Some(gate) = self.gate.lock().unwrap().take() {
            gate.recv()?;
        }
        self.loads.lock().unwrap().push(model.id().to_owned());
        if let Some(failure) = self.failures.lock().unwrap().pop() {
            anyhow::bail!(failure);
        }
        let (queue, workers) = (model.queue().clone(), self.workers.clone());
        workers.fetch_add(1, Ordering::SeqCst);
        let worker = thread::spawn(move || {
            while queue.wait() {
                drop(queue.take());
            }
            workers.fetch_sub(1, Ordering::SeqCst);
        });
        let pipeline = Pipeline::new(self.intake.clone(), tokenizer(), model.queue().clone());
        Ok(Loaded { pipeline, worker })
    }
}

fn tokenizer() -> Tokenizer {
    let directory = tempfile::tempdir().unwrap();
    let json =
        r#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"?":0},"unk_token":"?"}}"#;
    std::fs::write(directory.path().join("tokenizer.json"), json).unwrap();
    let limits = TokenizerLimits { tokens_max: 8, text_bytes_max: 8, vocabulary: 1 };
    Tokenizer::load(directory.path(), Case::AsGiven, limits).unwrap()
}

fn described(id: &str) -> Described {
    let sum = Sha256::of_bytes(id.as_bytes());
    let identity = Identity::new(sum, sum, sum, Pooling::Mean, Case::AsGiven);
    Described {
        files: ModelFiles {
            directory: "/no/model".into(),
            id: id.to_owned(),
            alias: None,
            width: 2,
            pooling: Pooling::Mean,
            case: Case::AsGiven,
            tokens_max: 8,
            trained_dimensions: vec![2],
            layer_norm_before_cut: false,
            prompts: Default::default(),
            identity,
            values: Values::default(),
            tokenizer_bytes: 0,
        },
        identity: identity.to_string(),
        tokens_max: 8,
        dimensions: None,
        compute: Compute::Float32,
        isa: engine::Isa::Auto,
        computes_with: "avx512",
        precision: PrecisionClass::Float32,
        need_bytes: NEED_BYTES,
    }
}

struct Rig {
    fake: Arc<Fake>,
    models: Vec<Arc<Served>>,
}

fn keeper(memory_bytes_max: u64) -> (Keeper, Rig) {
    let (wanted, told) = mpsc::channel(3);
    let metrics = Metrics::new(&mut Registry::default());
    let limits = QueueLimits { tokens_max: 100, batch_tokens_max: 8, batch_texts_max: 8 };
    let serve = |(index, id): (usize, &str)| {
        let queue = Arc::new(Queue::new(limits));
        Arc::new(Served::new(described(id), queue, metrics.of_model(id), index, wanted.clone()))
    };
    let models: Vec<_> = ["default", "a", "b"].into_iter().enumerate().map(serve).collect();
    let fake = Arc::new(Fake {
        intake: Arc::new(Intake::start(NonZeroUsize::MIN).unwrap()),
        loads: Mutex::default(),
        failures: Mutex::default(),
        gate: Mutex::default(),
        workers: Arc::default(),
    });
    let terms = Terms { memory_bytes_max, unload_timeout: Some(TIMEOUT) };
    (Keeper::new(models.clone(), fake.clone(), terms, told), Rig { fake, models })
}

impl Rig {
    /// A running keeper with its default model loaded.
    async fn start(memory_bytes_max: u64) -> Self {
        let (mut keeper, rig) = keeper(memory_bytes_max);
        keeper.load(0).await.unwrap();
        tokio::spawn(keeper.run());
        rig
    }

    async fn lease(&self, index: usize) -> Result<crate::serving::Lease, protocol::error::ApiError> {
        self.models[index].lease(Instant::now() + Duration::from_secs(30)).await
    }

    fn loaded(&self) -> Vec<&str> {
        self.models.iter().filter(|model| model.is_loaded()).map(|model| model.id()).collect()
    }

    fn loads(&self) -> Vec<String> {
        self.fake.loads.lock().unwrap().clone()
    }

    /// Waits until so many workers live; each ends a moment after its model is taken back.
    async fn workers(&self, count: usize) {
        while self.fake.workers.load(Ordering::SeqCst) != count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_is_loaded_once_for_all_that_wait_for_it() {
    let rig = Rig::start(100).await;
    assert_eq!(rig.loaded(), ["default"]);
    let leases = futures::future::join_all((0..8).map(|_| rig.lease(1))).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!((rig.loads(), rig.loaded()), (vec!["default".into(), "a".into()], vec!["default", "a"]));
    rig.lease(1).await.unwrap();
    assert_eq!(rig.loads().len(), 2, "what is loaded is not loaded again");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_unloaded_after_the_timeout_and_the_default_model_never() {
    let rig = Rig::start(100).await;
    drop(rig.lease(1).await.unwrap());
    sleep(TIMEOUT - Duration::from_secs(1)).await;
    assert_eq!(rig.loaded(), ["default", "a"]);
    sleep(Duration::from_secs(2)).await;
    rig.workers(1).await;
    assert_eq!(rig.loaded(), ["default"]);
    sleep(10 * TIMEOUT).await;
    assert_eq!(rig.loaded(), ["default"]);
    drop(rig.lease(1).await.unwrap());
    assert_eq!(rig.loads(), ["default", "a", "a"], "a call after that loads it again");
}

#[tokio::test(start_paused = true)]
async fn a_lease_keeps_its_model_loaded_and_each_use_begins_the_timeout_anew() {
    let rig = Rig::start(100).await;
    let lease = rig.lease(1).await.unwrap();
    sleep(3 * TIMEOUT).await;
    assert_eq!(rig.loaded(), ["default", "a"]);
    drop(lease);
    sleep(TIMEOUT / 2).await;
    drop(rig.lease(1).await.unwrap());
    sleep(TIMEOUT * 3 / 4).await;
    assert_eq!(rig.loaded(), ["default", "a"]);
    sleep(TIMEOUT).await;
    rig.workers(1).await;
    assert_eq!(rig.loaded(), ["default"]);
}

#[tokio::test(start_paused = true)]
async fn room_is_made_by_unloading_what_was_used_least_recently() {
    let rig = Rig::start(2 * NEED_BYTES).await;
    drop(rig.lease(1).await.unwrap());
    drop(rig.lease(2).await.unwrap());
    assert_eq!(rig.loaded(), ["default", "b"]);
    rig.workers(2).await;
    drop(rig.lease(1).await.unwrap());
    assert_eq!(rig.loaded(), ["default", "a"]);
    assert_eq!(rig.loads(), ["default", "a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_idle_models_the_one_used_last_stays() {
    let (mut keeper, rig) = keeper(3 * NEED_BYTES);
    for index in [0, 1, 2] {
        keeper.load(index).await.unwrap();
        advance(Duration::from_secs(1)).await;
    }
    drop(rig.models[1].lease(Instant::now() + TIMEOUT).await.unwrap());
    assert_eq!(keeper.least_recently_used(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn where_all_others_are_in_use_a_load_is_refused_with_need_and_limit() {
    let rig = Rig::start(2 * NEED_BYTES).await;
    let held = rig.lease(1).await.unwrap();
    let error = rig.lease(2).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(
        error.message,
        "model `b` cannot be loaded: needs 10 bytes of memory beside the 20 of models that are kept, \
         --models-memory-bytes-max is 20"
    );
    assert_eq!(rig.loaded(), ["default", "a"]);
    drop(held);
    assert!(rig.lease(2).await.is_ok(), "once it is idle it gives way");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_fails_those_that_wait_and_the_next_call_tries_again() {
    let rig = Rig::start(100).await;
    rig.fake.failures.lock().unwrap().push("tensor w is missing");
    let error = rig.lease(1).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(error.message, "model `a` cannot be loaded: tensor w is missing");
    assert!(rig.lease(1).await.is_ok());
    assert_eq!(rig.loads(), ["default", "a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_comes_first_is_told_so_and_the_load_goes_on() {
    let rig = Rig::start(100).await;
    let (open, gate) = threads::channel();
    *rig.fake.gate.lock().unwrap() = Some(gate);
    let model = rig.models[1].clone();
    let deadline = Instant::now() + Duration::from_secs(5);
    let waiting = tokio::spawn(async move { model.lease(deadline).await });
    // Time does not pass by itself while a load blocks a thread.
    while !waiting.is_finished() {
        tokio::task::yield_now().await;
        advance(Duration::from_millis(10)).await;
    }
    assert!(Instant::now() < deadline, "there is time left to answer");
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Unavailable, "model `a` is being loaded"));
    open.send(()).unwrap();
    assert!(rig.lease(1).await.is_ok());
    assert_eq!(rig.loads(), ["default", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_fits_beside_the_default_one_is_refused_by_name() {
    assert!(keeper(2 * NEED_BYTES).0.check_room().is_ok());
    let error = keeper(2 * NEED_BYTES - 1).0.check_room().unwrap_err();
    let message = format!("{error:#}");
    assert!(message.starts_with("model a: needs 10 bytes of memory beside the 10"), "{message}");
    let message = format!("{:#}", keeper(NEED_BYTES - 1).0.check_room().unwrap_err());
    assert!(message.starts_with("model default: needs 10 bytes of memory beside the 0"), "{message}");
}

//! Several shards, each a process: one is killed under load, and one joins.

use std::time::{Duration, Instant};

use e2e::{Answer, Door, Load, LoadPlan, Program, TinyModel, largest_delta, until};
use hyper::StatusCode;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    programs::{own_host, start_ml_base, start_proxy, start_shard},
    texts::text,
};

const PLAN: LoadPlan = LoadPlan {
    new_clients: 8,
    cached_clients: 4,
    pace: Duration::from_millis(50),
    texts: |number| vec![text(number, 20), text(number + 1_000_000, 5)],
};
/// Texts whose vectors are known.
const KNOWN: usize = 60;
/// Only the order of additions may differ.
const TOLERANCE: f32 = 1e-5;

fn known() -> Vec<String> {
    let word = |number: usize| format!("w{}", number % 64);
    (0..KNOWN).map(|number| [number, number * 7 + 3, number * 13 + 5].map(word).join(" ")).collect()
}

/// ml-base with a tiny model, and shards that hold the known texts.
struct Shards {
    _model: TinyModel,
    host: String,
    _ml_base: Program,
    door: Door,
    /// Each with its directory.
    shards: Vec<(Program, Door, TempDir)>,
    /// What ml-base itself gives for the known texts.
    vectors: Vec<Vec<f32>>,
}

impl Shards {
    async fn start(count: usize) -> Self {
        let model = TinyModel::new(1, 2);
        let ml_base = start_ml_base(model.path(), &["--port", "0"]);
        let door = ml_base.ready().await;
        let vectors = door.embed(&known()).await.rows();
        let host = own_host();
        let mut grid = Self { _model: model, host, _ml_base: ml_base, door, shards: Vec::new(), vectors };
        for _ in 0..count {
            grid.join().await;
        }
        let (_first, proxy) = grid.proxy(&[]).await;
        grid.check(&proxy.embed(&known()).await);
        until("the known texts are stored", async || {
            (grid.held().await.iter().sum::<usize>() == KNOWN).then_some(())
        })
        .await;
        grid
    }

    /// One more shard, which no proxy knows of yet.
    async fn join(&mut self) {
        let directory = tempfile::tempdir().unwrap();
        let shard = start_shard(directory.path(), &["--host", &self.host, "--port", "0"]);
        let door = shard.ready().await;
        self.shards.push((shard, door, directory));
    }

    /// A proxy that knows all shards there are now.
    async fn proxy(&self, arguments: &[&str]) -> (Program, Door) {
        let names: Vec<_> = self.shards.iter().map(|(_, door, _)| door.0.to_string()).collect();
        // Not about the budget: a machine that is busy shall not turn hits into misses.
        let own = ["--shards", &names.join(","), "--shard-timeout", "10"];
        let program = start_proxy(self.door, &[&own, arguments].concat());
        let proxy = program.ready().await;
        (program, proxy)
    }

    /// Vectors that each shard holds.
    async fn held(&self) -> Vec<usize> {
        let mut held = Vec::new();
        for (_, door, _) in &self.shards {
            let entries = door.get("/health").await.json()["entries"].as_u64().unwrap();
            held.push(usize::try_from(entries).unwrap());
        }
        held
    }

    /// Known texts that were hits; each has its own vector in any case.
    fn check(&self, answer: &Answer) -> usize {
        let rows = answer.rows();
        assert_eq!(rows.len(), KNOWN);
        for (index, (row, vector)) in rows.iter().zip(&self.vectors).enumerate() {
            let delta = largest_delta(row, vector);
            assert!(delta <= TOLERANCE, "text {index} is {delta:e} off");
        }
        answer.header("x-cache-hits").parse().unwrap()
    }

    async fn computed(&self) -> u64 {
        self.door.metric("ml_base_texts_total").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_shards_is_killed_under_load_and_costs_its_share_of_the_hits_alone() {
    let mut grid = Shards::start(3).await;
    let lost = grid.held().await[0];
    let (_loaded, loaded) = grid.proxy(&[]).await;
    // Without L1 every hit is one of the shards.
    let (_checked, checked) = grid.proxy(&["--cache-entries-max", "0"]).await;
    let load = Load::start(loaded, PLAN).await;
    load.until_each("every client is answered", StatusCode::OK).await;
    let from = Instant::now();
    assert_eq!(grid.check(&checked.embed(&known()).await), KNOWN);
    let (killed, ..) = &mut grid.shards[0];
    killed.signal(Signal::KILL);
    killed.end().await;
    until("both proxies know that it is gone", async || {
        let hits = grid.check(&checked.embed(&known()).await);
        assert!(hits >= KNOWN - lost, "{hits} hits of {KNOWN}, {lost} were lost");
        for proxy in [loaded, checked] {
            if proxy.get("/cache/stats").await.json()["l2"]["state"] != "partial" {
                return None;
            }
        }
        Some(())
    })
    .await;
    load.until_each("every client is answered after it", StatusCode::OK).await;
    for _ in 0..20 {
        // What the lost one owned is stored at nobody else: it is computed each time.
        assert_eq!(grid.check(&checked.embed(&known()).await), KNOWN - lost);
    }
    let figures = load.figures_since(from).await.show("one of three shards killed");
    assert_eq!(figures.failed(), 0, "{figures}");
    assert_eq!(load.stop().await.failed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_shard_joins_and_old_texts_are_found_at_their_old_owners_and_moved() {
    let mut grid = Shards::start(3).await;
    let before = grid.computed().await;
    grid.join().await;
    let (_restarted, proxy) = grid.proxy(&["--cache-entries-max", "0"]).await;
    assert_eq!(grid.check(&proxy.embed(&known()).await), KNOWN);
    let moved = proxy.metric("embedding_single_l2_second_finds_total").await;
    assert!(moved > 0);
    until("what was found at the old owners is at the new one too", async || {
        assert_eq!(grid.check(&proxy.embed(&known()).await), KNOWN);
        (grid.held().await[3] as u64 == moved).then_some(())
    })
    .await;
    assert_eq!(grid.computed().await, before);
    // A proxy that never asks the second in rank finds all of them.
    let (_later, later) = grid.proxy(&["--cache-entries-max", "0", "--shard-join-window", "0"]).await;
    assert_eq!(grid.check(&later.embed(&known()).await), KNOWN);
    assert_eq!(grid.computed().await, before);
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
    };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_a_text_come_from_all_shards_with_their_texts_where_those_are_kept() {
    let grid = Shards::start(2).await;
    let (_program, proxy) = grid.proxy(&["--shard-texts"]).await;
    let query = "w1 w2 w3 w4";
    let own = proxy.embed(&[query.to_owned()]).await.rows().remove(0);
    let mut expected: Vec<_> = grid.vectors.iter().map(|vector| cosine(vector, &own)).collect();
    expected.sort_by(|one, other| other.total_cmp(one));
    let body = serde_json::json!({"inputs": query});
    let found = proxy.post_json("/cache/similar?count=5", &body).await.json();
    assert_eq!(found["missing_shards"], serde_json::json!([]));
    let cosines: Vec<f64> =
        found["neighbours"].as_array().unwrap().iter().map(|near| near["cosine"].as_f64().unwrap()).collect();
    assert_eq!(cosines.len(), 5);
    for (found, expected) in cosines.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{cosines:?} {expected}");
    }
    // Once stored, the query itself is a neighbour of others, with its text.
    let near = until("the query is stored", async || {
        let body = serde_json::json!({"inputs": "w1 w2 w3 w4 w4"});
        let found = proxy.post_json("/cache/similar?count=60", &body).await.json();
        let neighbours = found["neighbours"].as_array().unwrap().clone();
        neighbours.into_iter().find(|near| near["text"] == query)
    })
    .await;
    assert!(near["cosine"].as_f64().unwrap() > 0.5, "{near}");
    let refused = proxy.post_json("/cache/similar?count=0", &body).await;
    assert!(refused.json()["error"].as_str().unwrap().contains("`count` is 0"));
}

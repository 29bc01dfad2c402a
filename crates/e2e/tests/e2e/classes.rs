//! Two precision classes at once: float32 and int8 of one model, in the same shards, under traffic.

use e2e::{Answer, Door, Program, TinyModel, largest_delta, until};
use hyper::StatusCode;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::programs::{start_ml_base, start_proxy, start_shard};

const TEXTS: usize = 40;
const ROUNDS: usize = 40;
/// Only the order of additions may differ.
const FLOAT32_TOLERANCE: f32 = 1e-5;
/// int8 is kept as float16.
const INT8_TOLERANCE: f32 = 1e-3;

fn texts() -> Vec<String> {
    let word = |number: usize| format!("w{}", number % 64);
    (0..TEXTS).map(|number| [number, number * 7 + 3, number * 13 + 5].map(word).join(" ")).collect()
}

/// What each class gives for the texts.
#[derive(Clone)]
struct Truth {
    float32: Vec<Vec<f32>>,
    int8: Vec<Vec<f32>>,
}

impl Truth {
    /// Checks that every vector is one of the two, and none below the class that the answer tells; answers that class.
    fn check<'a>(&self, answer: &'a Answer, indices: &[usize]) -> &'a str {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.shown());
        let told = answer.header("x-precision");
        for (row, index) in answer.rows().iter().zip(indices) {
            let is_float32 = largest_delta(row, &self.float32[*index]) <= FLOAT32_TOLERANCE;
            let is_int8 = largest_delta(row, &self.int8[*index]) <= INT8_TOLERANCE;
            assert!(is_float32 || (is_int8 && told == "int8"), "text {index}, told {told}");
        }
        told
    }
}

/// A replica of each class, two shards, and a proxy in front of each replica.
struct Classes {
    _programs: Vec<Program>,
    _directories: Vec<TempDir>,
    _model: TinyModel,
    truth: Truth,
    /// In front of float32, and takes nothing else.
    exact: Door,
    /// In front of int8, and takes both.
    any: Door,
}

impl Classes {
    async fn start() -> Self {
        let model = TinyModel::new(1, 2);
        let (mut programs, mut directories) = (Vec::new(), Vec::new());
        let mut shards = Vec::new();
        for _ in 0..2 {
            let directory = tempfile::tempdir().unwrap();
            let shard = start_shard(directory.path(), &["--port", "0"]);
            shards.push(shard.ready().await.0.to_string());
            programs.push(shard);
            directories.push(directory);
        }
        let (mut rows, mut doors) = (Vec::new(), Vec::new());
        for (dtype, classes) in [("float32", "float32"), ("int8", "float32,int8")] {
            let ml_base = start_ml_base(model.path(), &["--port", "0", "--dtype", dtype]);
            let of_ml_base = ml_base.ready().await;
            rows.push(of_ml_base.embed(&texts()).await.rows());
            // Without L1 all that is not computed comes from the shards.
            let own = ["--shards", &shards.join(","), "--shard-timeout", "10", "--cache-entries-max", "0"];
            let proxy = start_proxy(of_ml_base, &[&own[..], &["--precision-classes", classes]].concat());
            doors.push(proxy.ready().await);
            programs.extend([ml_base, proxy]);
        }
        let [float32, int8] = rows.try_into().unwrap();
        let truth = Truth { float32, int8 };
        Self {
            _programs: programs,
            _directories: directories,
            _model: model,
            truth,
            exact: doors[0],
            any: doors[1],
        }
    }
}

/// Asks for single texts and for lists, in an order of its own.
async fn ask_on(door: Door, truth: Truth, client: usize, is_exact: bool) {
    let mut connection = door.connect().await;
    let texts = texts();
    for round in 0..ROUNDS {
        let first = (client * 17 + round * 7) % TEXTS;
        let count = if round % 3 == 0 { 5 } else { 1 };
        let indices: Vec<_> = (first..first + count).map(|index| index % TEXTS).collect();
        let asked: Vec<_> = indices.iter().map(|index| &texts[*index]).collect();
        let answer = connection.embed(&asked).await;
        let told = truth.check(&answer, &indices);
        assert!(told == "float32" || !is_exact, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_classes_live_at_once_and_the_higher_one_takes_the_place_of_the_lower() {
    let grid = Classes::start().await;
    let all: Vec<_> = (0..TEXTS).collect();
    let differ =
        |index: usize| largest_delta(&grid.truth.float32[index], &grid.truth.int8[index]) > INT8_TOLERANCE;
    assert!((0..TEXTS).any(differ), "the classes can be told apart");
    // int8 is there first, and enough for whoever takes it.
    assert_eq!(grid.truth.check(&grid.any.embed(&texts()).await, &all), "int8");
    until("all are found as int8", async || {
        let answer = grid.any.embed(&texts()).await;
        assert_eq!(grid.truth.check(&answer, &all), "int8");
        (answer.header("x-cache") == "hit").then_some(())
    })
    .await;
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let is_exact = client % 2 == 0;
        let door = if is_exact { grid.exact } else { grid.any };
        clients.spawn(ask_on(door, grid.truth.clone(), client, is_exact));
    }
    clients.join_all().await;
    assert_eq!(grid.truth.check(&grid.exact.embed(&texts()).await, &all), "float32");
    // What was computed in float32 is everybody's from now on.
    until("all are found as float32 at both", async || {
        for door in [grid.exact, grid.any] {
            let answer = door.embed(&texts()).await;
            let told = grid.truth.check(&answer, &all);
            if (told, answer.header("x-cache")) != ("float32", "hit") {
                return None;
            }
        }
        Some(())
    })
    .await;
}

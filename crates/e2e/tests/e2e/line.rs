//! The line between a proxy and its shard is held, cut, slowed, garbled: no request fails and no vector is wrong.

use std::time::Duration;

use e2e::{Door, Fault, FaultyLine, Program, TinyModel, largest_delta, until};
use hyper::StatusCode;
use tempfile::TempDir;

use crate::{
    programs::{start_ml_base, start_proxy, start_shard},
    texts::text,
};

/// Texts of a request: their vectors fill more than one chunk of the line.
const KNOWN: usize = 60;
/// Only the order of additions may differ.
const TOLERANCE: f32 = 1e-5;
/// Requests under each fault: more than it takes to open a breaker.
const REQUESTS: usize = 12;

/// ml-base, a shard, a line to it, and a proxy without a cache of its own.
struct Grid {
    _model: TinyModel,
    _ml_base: Program,
    door: Door,
    _shard: Program,
    _directory: TempDir,
    line: FaultyLine,
    _program: Program,
    proxy: Door,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

impl Grid {
    async fn start() -> Self {
        let model = TinyModel::new(1, 2);
        let ml_base = start_ml_base(model.path(), &["--port", "0"]);
        let door = ml_base.ready().await;
        let directory = tempfile::tempdir().unwrap();
        let shard = start_shard(directory.path(), &["--port", "0"]);
        let line = FaultyLine::to(shard.ready().await).await;
        let name = line.door().0.to_string();
        let program = start_proxy(door, &["--shards", &name, "--cache-entries-max", "0"]);
        let proxy = program.ready().await;
        let texts: Vec<_> =
            (0..KNOWN).map(|number| format!("w{} w{}", number % 64, number * 7 % 64)).collect();
        let vectors = door.embed(&texts).await.rows();
        let grid = Self {
            _model: model,
            _ml_base: ml_base,
            door,
            _shard: shard,
            _directory: directory,
            line,
            _program: program,
            proxy,
            texts,
            vectors,
        };
        grid.is_cached().await;
        grid
    }

    /// Asks until all texts come from the shard.
    async fn is_cached(&self) {
        until("all texts come from the shard", async || (self.ask().await == KNOWN).then_some(())).await;
    }

    /// Asks for the known texts; how many came from the shard. Each has its own vector in any case.
    async fn ask(&self) -> usize {
        let answer = self.proxy.embed(&self.texts).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.shown());
        for (index, (row, vector)) in answer.rows().iter().zip(&self.vectors).enumerate() {
            let delta = largest_delta(row, vector);
            assert!(delta <= TOLERANCE, "text {index} is {delta:e} off");
        }
        answer.header("x-cache-hits").parse().unwrap()
    }

    /// Asks for a text that nobody has asked for.
    async fn ask_new(&self, number: usize) {
        let new = [text(number, 8)];
        let answer = self.proxy.embed(&new).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.shown());
        let delta = largest_delta(&answer.rows()[0], &self.door.embed(&new).await.rows()[0]);
        assert!(delta <= TOLERANCE, "new text {number} is {delta:e} off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_line_no_request_fails_and_no_vector_is_wrong() {
    let grid = Grid::start().await;
    let faults = [
        Fault::Held,
        Fault::Deaf,
        Fault::Slow(Duration::from_millis(30)),
        Fault::Slow(Duration::from_secs(1)),
        Fault::Garbled,
        Fault::Reset,
    ];
    for (turn, fault) in faults.into_iter().enumerate() {
        grid.line.set(fault);
        for number in 0..REQUESTS {
            grid.ask().await;
            grid.ask_new(turn * REQUESTS + number).await;
        }
        grid.line.set(Fault::None);
        // The shard is found again without anybody's help, with all that it had.
        grid.is_cached().await;
    }
}

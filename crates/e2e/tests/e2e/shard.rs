//! The shard, and then everything, is killed and held still: no request fails, and what was stored is found again.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use e2e::{Door, Load, LoadPlan, Program, goldens, model_dir, until};
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    programs::{own_host, start_ml_base, start_proxy, start_shard},
    texts::text,
};

const PLAN: LoadPlan = LoadPlan {
    new_clients: 8,
    cached_clients: 4,
    pace: Duration::from_millis(100),
    texts: |number| vec![text(number, 20)],
};
/// How long the shard is held still.
const STOPPED: Duration = Duration::from_secs(5);

/// ml-base, shard and proxy, each a process.
struct Programs {
    model: PathBuf,
    host: String,
    directory: TempDir,
    ml_base: Program,
    shard: Program,
    shard_door: Door,
    program: Program,
    proxy: Door,
}

impl Programs {
    async fn start(test: &str) -> Option<Self> {
        let model = model_dir(test)?;
        let (host, directory) = (own_host(), tempfile::tempdir().unwrap());
        let ml_base = start_ml_base(&model, &["--host", &host, "--port", "0"]);
        let shard = start_shard(directory.path(), &["--host", &host, "--port", "0"]);
        let shard_door = shard.ready().await;
        let program = start_front(ml_base.ready().await, &host, shard_door);
        let proxy = program.ready().await;
        Some(Self { model, host, directory, ml_base, shard, shard_door, program, proxy })
    }

    /// Everything ends by this signal and is started again.
    async fn restart(&mut self, signal: Signal) {
        for program in [&mut self.program, &mut self.ml_base, &mut self.shard] {
            program.signal(signal);
            program.end().await;
        }
        self.start_shard_again().await;
        self.ml_base = start_ml_base(&self.model, &["--host", &self.host, "--port", "0"]);
        self.program = start_front(self.ml_base.ready().await, &self.host, self.shard_door);
        self.proxy = self.program.ready().await;
    }

    /// Starts the shard where it was.
    async fn start_shard_again(&mut self) {
        let port = self.shard_door.0.port().to_string();
        self.shard = start_shard(self.directory.path(), &["--host", &self.host, "--port", &port]);
        assert_eq!(self.shard.ready().await, self.shard_door);
    }

    async fn l2_is(&self, state: &str) {
        let is_so = async || (self.l2("state").await == state).then_some(());
        until(&format!("the shard is {state} for the proxy"), is_so).await;
    }

    async fn l2(&self, field: &str) -> Value {
        self.proxy.get("/cache/stats").await.json()["l2"][field].clone()
    }

    /// Waits until the shard holds this many vectors.
    async fn stored(&self, count: usize) {
        let is_so = async || (self.shard_door.get("/health").await.json()["entries"] == count).then_some(());
        until(&format!("the shard holds {count} vectors"), is_so).await;
    }

    /// Puts load on the grid while `fault` happens, of which no request may fail.
    async fn under_load(&mut self, what: &str, fault: impl AsyncFnOnce(&mut Self)) {
        let load = Load::start(self.proxy, PLAN).await;
        load.until_each("every client is answered", StatusCode::OK).await;
        let from = Instant::now();
        fault(self).await;
        load.until_each("every client is answered after it", StatusCode::OK).await;
        let figures = load.figures_since(from).await.show(what);
        assert_eq!(figures.failed(), 0, "{what}: {figures}\n{}", self.program.log());
        assert_eq!(load.stop().await.failed(), 0);
    }
}

fn start_front(ml_base: Door, host: &str, shard: Door) -> Program {
    let port = shard.0.port().to_string();
    start_proxy(ml_base, &["--shard-host", host, "--shard-port", &port])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_shard_is_killed_and_started_again() {
    let test = "shard::no_request_fails_while_the_shard_is_killed_and_started_again";
    let Some(mut grid) = Programs::start(test).await else { return };
    let fault = async |grid: &mut Programs| {
        grid.shard.signal(Signal::KILL);
        grid.shard.end().await;
        grid.l2_is("down").await;
        grid.start_shard_again().await;
        grid.l2_is("up").await;
    };
    grid.under_load("the shard killed and started again", fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_shard_holds_still_for_five_seconds() {
    let test = "shard::no_request_fails_while_the_shard_holds_still_for_five_seconds";
    let Some(mut grid) = Programs::start(test).await else { return };
    let fault = async |grid: &mut Programs| {
        grid.shard.signal(Signal::STOP);
        // Not a wait for something: this long is the fault.
        tokio::time::sleep(STOPPED).await;
        assert_eq!(grid.l2("state").await, "down");
        grid.shard.signal(Signal::CONT);
        grid.l2_is("up").await;
    };
    grid.under_load(&format!("the shard still for {STOPPED:?}"), fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_everything_was_stopped_or_killed_every_stored_text_is_a_hit_bit_equal() {
    let test = "shard::after_everything_was_stopped_or_killed_every_stored_text_is_a_hit_bit_equal";
    let Some(mut grid) = Programs::start(test).await else { return };
    let texts: Vec<String> = goldens().into_iter().map(|golden| golden.text).collect();
    let first = grid.proxy.embed(&texts).await;
    // Told to stop, a proxy stores what it has; of one that is killed only what was stored is known.
    grid.restart(Signal::TERM).await;
    grid.stored(texts.len()).await;
    for signal in [Signal::KILL, Signal::TERM] {
        let again = grid.proxy.embed(&texts).await;
        assert_eq!(again.header("x-cache"), "hit");
        assert_eq!(again.rows_as_written(), first.rows_as_written());
        assert_eq!(grid.l2("hits").await, texts.len());
        grid.restart(signal).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_started_while_ml_base_is_away_serves_what_is_cached_and_the_rest_once_it_is_back() {
    let test =
        "shard::a_proxy_started_while_ml_base_is_away_serves_what_is_cached_and_the_rest_once_it_is_back";
    let Some(mut grid) = Programs::start(test).await else { return };
    let texts: Vec<String> = goldens().into_iter().map(|golden| golden.text).collect();
    let first = grid.proxy.embed(&texts).await;
    let ml_base = grid.ml_base.ready().await;
    for program in [&mut grid.program, &mut grid.ml_base] {
        program.signal(Signal::TERM);
        program.end().await;
    }
    grid.program = start_front(ml_base, &grid.host, grid.shard_door);
    grid.proxy = grid.program.ready().await;
    let found = grid.proxy.embed(&texts).await;
    assert_eq!(found.header("x-cache"), "hit");
    assert_eq!(found.rows_as_written(), first.rows_as_written());
    let refused = grid.proxy.embed(&["a new text"]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));

    let port = ml_base.0.port().to_string();
    grid.ml_base = start_ml_base(&grid.model, &["--host", &grid.host, "--port", &port]);
    grid.ml_base.ready().await;
    until("a new text is computed", async || {
        let answer = grid.proxy.embed(&["a new text"]).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

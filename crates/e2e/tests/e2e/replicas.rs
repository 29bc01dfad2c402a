//! Three replicas behind HAProxy fail in every way there is, under steady load, and nobody's request fails.
//!
//! Each test shows what the load saw during its fault on stderr: `cargo nextest run … --no-capture` prints it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e::{Balancer, Door, Load, LoadPlan, Program, model_dir, until};
use futures::future::join_all;
use hyper::StatusCode;
use rustix::process::Signal;

use crate::{
    programs::{own_host, start_ml_base, start_proxy},
    texts::text,
};

const REPLICAS: usize = 3;
/// Less than two replicas on two cores can compute, so that what a fault adds is seen.
const PLAN: LoadPlan = LoadPlan {
    new_clients: 12,
    cached_clients: 6,
    pace: Duration::from_millis(100),
    texts: |number| vec![text(number, 20)],
};
/// How long a replica is held still.
const STOPPED: Duration = Duration::from_secs(5);

/// Replicas, balancer and proxy, each a process, under load.
struct Faulty {
    model: PathBuf,
    host: String,
    replicas: Vec<Program>,
    doors: Vec<Door>,
    balancer: Balancer,
    load: Load,
    proxy: Door,
    _proxy: Program,
}

impl Faulty {
    async fn start(test: &str) -> Option<Self> {
        let model = model_dir(test)?;
        let host = own_host();
        let mut replicas = Vec::new();
        replicas.extend((0..REPLICAS).map(|_| start_replica(&model, &host, 0)));
        let doors = join_all(replicas.iter().map(Program::ready)).await;
        let balancer = Balancer::start(test, &host, &doors)?;
        let program = start_proxy(balancer.ready().await, &["--ml-base-calls-max", "96"]);
        let proxy = program.ready().await;
        let load = Load::start(proxy, PLAN).await;
        load.until_each("every client is answered", StatusCode::OK).await;
        let from = Instant::now();
        // What a fault is to be compared with.
        let _ = load.figures(from, from + Duration::from_secs(1)).await.show("before");
        Some(Self { model, host, replicas, doors, balancer, load, proxy, _proxy: program })
    }

    fn signal(&self, number: usize, signal: Signal) {
        self.replicas[number].signal(signal);
    }

    /// Waits for the end of a replica and starts it again where it was.
    async fn restart(&mut self, number: usize) {
        self.replicas[number].end().await;
        let port = self.doors[number].0.port();
        self.replicas[number] = start_replica(&self.model, &self.host, port);
        assert_eq!(self.replicas[number].ready().await, self.doors[number]);
    }

    async fn answered(&self, what: &str) {
        self.load.until_each(what, StatusCode::OK).await;
    }

    /// Shows the requests in flight since `from`, of which none may have failed.
    async fn assert_none_failed(&self, what: &str, from: Instant) {
        let figures = self.load.figures_since(from).await.show(what);
        assert_eq!(figures.failed(), 0, "{what}: {figures}\n{}", self.balancer.log());
    }

    /// Ends the load, and asserts that none of its requests has failed, whenever it was sent.
    async fn stop_without_failure(self) {
        let figures = self.load.stop().await;
        assert_eq!(figures.failed(), 0, "{figures}");
    }
}

fn start_replica(model: &Path, host: &str, port: u16) -> Program {
    start_ml_base(model, &["--host", host, "--port", &port.to_string(), "--worker-threads", "1"])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_each_replica_in_turn_is_killed_and_started_again() {
    let test = "replicas::no_request_fails_while_each_replica_in_turn_is_killed_and_started_again";
    let Some(mut grid) = Faulty::start(test).await else { return };
    for number in 0..REPLICAS {
        let from = Instant::now();
        grid.signal(number, Signal::KILL);
        grid.balancer.until_status(number, "DOWN").await;
        grid.answered("every client is answered without it").await;
        grid.restart(number).await;
        grid.balancer.until_all_up().await;
        grid.answered("every client is answered with it").await;
        grid.assert_none_failed(&format!("replica {number} killed and started again"), from).await;
    }
    grid.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_each_replica_in_turn_holds_still_for_five_seconds() {
    let test = "replicas::no_request_fails_while_each_replica_in_turn_holds_still_for_five_seconds";
    let Some(grid) = Faulty::start(test).await else { return };
    for number in 0..REPLICAS {
        let from = Instant::now();
        grid.signal(number, Signal::STOP);
        // Not a wait for something: this long is the fault.
        tokio::time::sleep(STOPPED).await;
        let slots = grid.balancer.slots().await;
        assert_eq!(slots[number].status, "DOWN", "{slots:?}");
        grid.signal(number, Signal::CONT);
        grid.balancer.until_all_up().await;
        grid.answered("every client is answered with it").await;
        grid.assert_none_failed(&format!("replica {number} still for {STOPPED:?}"), from).await;
    }
    grid.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_replicas_are_replaced_one_by_one() {
    let test = "replicas::no_request_fails_while_the_replicas_are_replaced_one_by_one";
    let Some(mut grid) = Faulty::start(test).await else { return };
    for number in 0..REPLICAS {
        let from = Instant::now();
        grid.signal(number, Signal::TERM);
        grid.restart(number).await;
        grid.balancer.until_all_up().await;
        grid.answered("every client is answered with it").await;
        grid.assert_none_failed(&format!("replica {number} told to stop and started again"), from).await;
    }
    grid.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_drained_by_an_operator_gets_no_streams_and_no_request_fails() {
    let test = "replicas::a_replica_drained_by_an_operator_gets_no_streams_and_no_request_fails";
    let Some(grid) = Faulty::start(test).await else { return };
    let from = Instant::now();
    grid.balancer.order("set server ml_base/ml1 state drain").await;
    grid.balancer.until_status(0, "DRAIN").await;
    let streams = grid.balancer.slots().await[0].streams;
    grid.answered("every client is answered without it").await;
    assert_eq!(grid.balancer.slots().await[0].streams, streams);
    grid.balancer.order("set server ml_base/ml1 state ready").await;
    until("it gets streams again", async || (grid.balancer.slots().await[0].streams > streams).then_some(()))
        .await;
    grid.assert_none_failed("replica 0 drained and taken back", from).await;
    grid.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_balancer_reads_its_file_anew() {
    let test = "replicas::no_request_fails_while_the_balancer_reads_its_file_anew";
    let Some(grid) = Faulty::start(test).await else { return };
    for round in 0..REPLICAS {
        let from = Instant::now();
        grid.balancer.reload().await;
        grid.answered("every client is answered through the new worker").await;
        grid.assert_none_failed(&format!("reload {round}"), from).await;
    }
    grid.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_replicas_killed_at_once_cost_less_than_a_hundredth_of_that_second() {
    let test = "replicas::two_of_three_replicas_killed_at_once_cost_less_than_a_hundredth_of_that_second";
    let Some(mut grid) = Faulty::start(test).await else { return };
    for pair in [[0, 1], [2, 0]] {
        let from = Instant::now();
        pair.iter().for_each(|number| grid.signal(*number, Signal::KILL));
        let second = grid.load.figures(from, from + Duration::from_secs(1)).await;
        let second = second.show(&format!("the second in which replicas {pair:?} were killed"));
        assert!(second.failed() * 100 < second.sent(), "{second}\n{}", grid.balancer.log());
        for number in pair {
            grid.restart(number).await;
        }
        grid.balancer.until_all_up().await;
        grid.answered("every client is answered with both").await;
        let _ = grid.load.figures_since(from).await.show("and until both were back");
    }
    grid.load.stop().await;
}

/// Calls that ml-base got through the balancer, those for its models too.
async fn calls(replicas: &[Door]) -> u64 {
    let path = r#"path="/sutra.inference.v1.Inference/{*method}""#;
    let counts = replicas.iter().map(|door| door.metric_of("ml_base_requests_total", path));
    join_all(counts).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_replica_down_cached_texts_are_served_and_all_recovers_without_a_storm() {
    let test = "replicas::with_every_replica_down_cached_texts_are_served_and_all_recovers_without_a_storm";
    let Some(mut grid) = Faulty::start(test).await else { return };
    let down = Instant::now();
    (0..REPLICAS).for_each(|number| grid.signal(number, Signal::KILL));
    // Cached texts are answered: a client of the load that finds otherwise fails the test.
    grid.load.until_each("every client is refused", StatusCode::SERVICE_UNAVAILABLE).await;
    let refused = grid.load.figures(down, down + Duration::from_secs(2)).await.show("every replica down");
    assert_eq!(refused.failed(), refused.refused(), "{refused}");
    assert!(
        refused.longest() < Duration::from_secs(30),
        "nobody waits for the limit of a request: {refused}"
    );
    assert_eq!(grid.proxy.get("/health").await.status, StatusCode::OK);

    let back = Instant::now();
    for number in 0..REPLICAS {
        grid.restart(number).await;
    }
    grid.balancer.until_all_up().await;
    grid.answered("every client is answered again").await;
    let recovered = Instant::now();
    grid.answered("and goes on being answered").await;
    grid.assert_none_failed("after the recovery", recovered).await;
    // The replicas have counted since they were started, so from `back` on: one call for each text, and a few again.
    let (calls, asked) = (calls(&grid.doors).await, grid.load.new_since(back));
    let counted = format!("since the first was started again: {calls} calls for {asked} requests\n");
    std::io::stderr().write_all(counted.as_bytes()).unwrap();
    assert!(calls * 2 <= asked as u64 * 3, "{calls} calls for {asked} requests of one text each");
    grid.load.stop().await;
}

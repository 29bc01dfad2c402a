//! SIGTERM: what was asked is answered, and then the program ends well.

use e2e::{Door, Program, until};
use hyper::StatusCode;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{programs::Programs, texts::long_text};

const CLIENTS: usize = 4;
/// Texts of each client: a second or more of work for all of them, so that the signal comes in between.
const TEXTS: usize = 8;

/// Tells `program` to stop while `CLIENTS` requests at its `door` are in flight; `metric` says how many are.
async fn stop_in_flight(program: &mut Program, door: Door, metric: &str) {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = door.connect().await;
        let texts: Vec<String> = (0..TEXTS).map(|number| long_text(client * TEXTS + number)).collect();
        clients.spawn(async move { connection.embed(&texts).await });
    }
    // The request for the metrics counts itself.
    until("all requests are in flight", async || (door.metric(metric).await > CLIENTS as u64).then_some(()))
        .await;
    program.signal(Signal::TERM);
    for answer in clients.join_all().await {
        assert_eq!(answer.rows().len(), TEXTS);
    }
    let status = program.end().await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_both_programs_answer_what_is_in_flight_and_end_well() {
    let test = "drained::told_to_stop_both_programs_answer_what_is_in_flight_and_end_well";
    let Some(mut programs) = Programs::start(test).await else { return };
    let proxy = programs.proxy.door().await;
    stop_in_flight(&mut programs.proxy, proxy, "embedding_single_requests_in_flight").await;
    let ml_base = programs.ml_base.door().await;
    assert_eq!(ml_base.get("/health").await.status, StatusCode::OK);
    stop_in_flight(&mut programs.ml_base, ml_base, "ml_base_requests_in_flight").await;
}

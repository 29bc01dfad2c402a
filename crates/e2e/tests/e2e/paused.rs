//! ml-base holds still without closing anything, as on a machine that swaps or is suspended.

use e2e::until;
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{programs::Programs, texts::text};

#[tokio::test(flavor = "multi_thread")]
async fn while_ml_base_is_paused_deadlines_are_kept_and_cached_texts_served() {
    let test = "paused::while_ml_base_is_paused_deadlines_are_kept_and_cached_texts_served";
    let Some(programs) = Programs::start(test).await else { return };
    let proxy = programs.proxy.door().await;
    let mut client = proxy.connect().await;
    client.embed(&["cached"]).await.rows();

    programs.ml_base.signal(Signal::STOP);
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let mut client = proxy.connect().await;
        clients.spawn(async move {
            let soon = [("x-request-timeout-ms", "300")];
            client.ask_with(&soon, &json!({"inputs": text(number, 8)})).await
        });
    }
    for answer in clients.join_all().await {
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.shown());
        assert_eq!(answer.json()["code"], "deadline_exceeded");
    }
    assert_eq!(client.embed(&["cached"]).await.header("x-cache"), "hit");
    assert_eq!(proxy.get("/health").await.status, StatusCode::OK);

    programs.ml_base.signal(Signal::CONT);
    until("new texts are answered again", async || {
        (client.embed(&["new"]).await.status == StatusCode::OK).then_some(())
    })
    .await;
}

//! The first seconds of a grid whose model does not come: everything says so, and ends when it is told to.

use e2e::{Door, Program};
use hyper::StatusCode;
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};

use crate::programs::start_proxy;

/// A hub that accepts and says nothing, for as long as the returned connections are kept.
async fn silent_hub() -> (String, tokio::sync::mpsc::UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (keep, kept) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if keep.send(stream).is_err() {
                return;
            }
        }
    });
    (url, kept)
}

async fn assert_loading(door: Door) {
    let mut client = door.connect().await;
    assert_eq!(client.get("/livez").await.status, StatusCode::OK);
    let health = client.get("/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["status"], "loading");
    for answer in [client.embed(&["a text"]).await, client.get("/info").await] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.shown());
        assert_eq!((answer.header("retry-after"), &answer.json()["code"]), ("1", &"unavailable".into()));
    }
    assert_eq!(client.get("/metrics").await.status, StatusCode::OK);
}

async fn assert_ends_well(mut program: Program) {
    program.signal(Signal::TERM);
    let status = program.end().await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_model_is_there_both_say_loading_and_stop_when_told() {
    let (hub, mut asked) = silent_hub().await;
    let nothing = tempfile::tempdir().unwrap();
    let nowhere = nothing.path().to_str().unwrap();
    let sources =
        ["--hub-endpoint", &hub, "--hub-home", nowhere, "--model-store", nowhere, "--package-index", "off"];
    let ml_base =
        Program::start("ml-base", &[&["--port", "0", "--model-id", "medium"], &sources[..]].concat());
    // It listens before it asks, and asks before it can be ready.
    let _connection = e2e::within_patience("ml-base asks the hub", asked.recv()).await.unwrap();
    let door = ml_base.door().await;
    assert_loading(door).await;
    let proxy = start_proxy(door, &[]);
    assert_loading(proxy.door().await).await;
    assert_ends_well(proxy).await;
    assert_ends_well(ml_base).await;
}

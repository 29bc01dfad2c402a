//! An ml-base that fails, lies, changes or goes away.

use hyper::{Method, StatusCode};
use serde_json::json;
use service::lifecycle::State;
use tonic::Code;

use crate::{
    client::Connection,
    fake::{Mode, WIDTH, vector},
    grid::{Grid, proxy},
};

#[tokio::test]
async fn while_ml_base_is_away_cached_texts_are_answered_and_others_get_503() {
    let Grid { fake, address, lifecycle, stop: _stop } = Grid::start(&[]).await;
    let mut connection = Connection::open(address).await;
    connection.embed(&json!({"inputs": "cached"})).await;
    fake.stop().await;
    let missing = connection.embed(&json!({"inputs": ["cached", "missing"]})).await;
    assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE, "{missing:?}");
    assert_eq!((missing.header("retry-after"), missing.json()["code"].as_str()), ("1", Some("unavailable")));
    let cached = connection.embed(&json!({"inputs": "cached"})).await;
    assert_eq!((cached.status, cached.header("x-cache")), (StatusCode::OK, "hit"));
    assert_eq!(connection.get("/health").await.status, StatusCode::OK);
    assert_eq!(lifecycle.state(), State::Ready);
}

#[tokio::test]
async fn until_ml_base_answers_the_proxy_is_loading() {
    // A port that nobody listens on: bound, and never accepted from.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let ml_base_url = format!("http://{}", silent.local_addr().unwrap());
    let (address, _lifecycle, _stop) = proxy(&ml_base_url, &[]).await;
    let mut connection = Connection::open(address).await;
    let health = connection.get("/health").await;
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("loading"))
    );
    assert_eq!(connection.get("/livez").await.status, StatusCode::OK);
    for answer in [connection.embed(&json!({"inputs": "text"})).await, connection.get("/info").await] {
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    }
}

#[tokio::test]
async fn a_new_identity_is_learned_at_once_and_old_vectors_are_not_served_for_it() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    connection.embed(&json!({"inputs": ["old"]})).await;
    grid.fake.set_identity("bb");
    let answer = connection.embed(&json!({"inputs": ["old", "new"]})).await;
    assert_eq!(answer.rows().len(), 2);
    assert_eq!(answer.header("x-model-identity"), "bb".repeat(32));
    assert_eq!(answer.header("x-cache"), "miss");
    assert_eq!(connection.embed(&json!({"inputs": ["old"]})).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn a_lie_is_an_internal_error_and_nothing_of_it_is_cached() {
    for lie in [Mode::LieWidth, Mode::LieIdentity, Mode::LieBytes] {
        let grid = Grid::start(&[]).await;
        let mut connection = grid.connect().await;
        grid.fake.set(lie);
        let answer = connection.embed(&json!({"texts": ["one", "two"]})).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{lie:?} {answer:?}");
        grid.fake.set(Mode::Honest);
        let answer = connection.embed(&json!({"texts": ["one", "two"]})).await;
        assert_eq!((answer.header("x-cache"), answer.rows().len()), ("miss", 2), "{lie:?}");
    }
}

#[tokio::test]
async fn a_text_that_changed_on_its_way_is_asked_for_once_more_and_never_answered_with_anothers_vector() {
    let grid = Grid::start(&["--ml-base-calls-max", "1"]).await;
    let mut connection = grid.connect().await;
    let texts = ["one", "two"];
    grid.fake.set(Mode::Mishear);
    let answer = connection.embed(&json!({"inputs": texts})).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    // Its neighbour was heard as it was said.
    assert_eq!(grid.fake.calls(), [vec!["one".to_owned(), "two".into()], vec!["two".into()]]);
    grid.fake.set(Mode::MishearOnce);
    let answer = connection.embed(&json!({"inputs": texts, "normalize": false})).await;
    assert_eq!(
        (answer.header("x-cache"), answer.rows()),
        ("partial", texts.map(|text| vector(text, WIDTH)).to_vec())
    );
    assert_eq!(grid.fake.calls().len(), 4);
    let metrics = String::from_utf8(connection.get("/metrics").await.body.to_vec()).unwrap();
    let line = r#"embedding_single_ml_base_calls_total{result="garbled"} 3"#;
    assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
}

#[tokio::test]
async fn a_text_without_a_finite_vector_fails_by_name_and_its_neighbours_are_cached() {
    let grid = Grid::start(&["--ml-base-calls-max", "1"]).await;
    let mut connection = grid.connect().await;
    let answer = connection.embed(&json!({"texts": ["a", "nan", "b"]})).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["text_index"], 1);
    assert_eq!(answer.json()["field"], "texts[1]");
    assert_eq!(connection.embed(&json!({"texts": ["a", "b"]})).await.header("x-cache"), "hit");
    let again = connection.embed(&json!({"texts": ["nan"]})).await;
    assert_eq!(again.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_text_ml_base_finds_too_long_is_named_with_its_message() {
    let grid = Grid::start(&[]).await;
    let body = json!({"inputs": ["a", "long one"], "truncate": false});
    let answer = grid.connect().await.embed(&body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["error"], "`inputs[1]`: it has 9 tokens, the limit is 8");
}

#[tokio::test]
async fn what_fails_once_is_asked_once_more() {
    let grid = Grid::start(&["--ml-base-calls-max", "1"]).await;
    let mut connection = grid.connect().await;
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        grid.fake.set(Mode::RefuseOnce(code));
        connection.embed(&json!({"inputs": format!("{code:?}")})).await.rows();
    }
    let before = grid.fake.calls().len();
    connection.embed(&json!({"inputs": ["steady", "flaky"]})).await.rows();
    assert_eq!(
        grid.fake.calls()[before..],
        [vec!["steady".to_owned(), "flaky".into()], vec!["flaky".into()]]
    );
}

#[tokio::test]
async fn what_fails_twice_is_refused_as_what_it_is() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    for (code, status, retry_after, calls) in [
        (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "1", 2),
        (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, "1", 2),
        (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, "", 1),
        (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "", 2),
        (Code::InvalidArgument, StatusCode::INTERNAL_SERVER_ERROR, "", 1),
    ] {
        let before = grid.fake.calls().len();
        grid.fake.set(Mode::Refuse(code));
        let answer = connection.embed(&json!({"inputs": "text"})).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, retry_after), "{code:?}");
        assert_eq!(grid.fake.calls().len() - before, calls, "{code:?}");
    }
}

#[tokio::test]
async fn a_computation_whose_last_client_gave_up_is_cancelled() {
    let grid = Grid::start(&[]).await;
    grid.fake.hold();
    let mut connection = grid.connect().await;
    let body = json!({"inputs": "text"}).to_string();
    let answer = connection.send(Method::POST, "/embed", &[("x-request-timeout-ms", "50")], body).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    grid.fake.cancelled(1).await;
    grid.fake.release();
    connection.embed(&json!({"inputs": "text"})).await.rows();
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_what_only_it_waited_for() {
    let grid = Grid::start(&[]).await;
    grid.fake.hold();
    let ask = async |mut connection: Connection| connection.embed(&json!({"inputs": "text"})).await;
    let client = tokio::spawn(ask(grid.connect().await));
    grid.fake.called(1).await;
    client.abort();
    grid.fake.cancelled(1).await;
}

#[tokio::test]
async fn a_computation_past_its_own_limit_fails_and_frees_its_call() {
    let grid = Grid::start(&["--compute-timeout", "0.1", "--ml-base-calls-max", "1"]).await;
    grid.fake.hold();
    let mut connection = grid.connect().await;
    let answer = connection.embed(&json!({"inputs": "text"})).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    grid.fake.release();
    connection.embed(&json!({"inputs": "text"})).await.rows();
}

#[tokio::test]
async fn beyond_the_queue_of_missing_texts_requests_get_429() {
    let grid =
        Grid::start(&["--request-texts-max", "1", "--queue-texts-max", "1", "--ml-base-calls-max", "1"])
            .await;
    grid.fake.hold();
    let ask = async |mut connection: Connection, text| connection.embed(&json!({"inputs": text})).await;
    let first = tokio::spawn(ask(grid.connect().await, "first"));
    grid.fake.called(1).await;
    // One of these two finds the only place in the queue; the other is refused while everything is held.
    let mut second = tokio::spawn(ask(grid.connect().await, "second"));
    let mut third = tokio::spawn(ask(grid.connect().await, "third"));
    let (refused, waiting) = tokio::select! {
        refused = &mut second => (refused, third),
        refused = &mut third => (refused, second),
    };
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    grid.fake.release();
    first.await.unwrap().rows();
    waiting.await.unwrap().rows();
}

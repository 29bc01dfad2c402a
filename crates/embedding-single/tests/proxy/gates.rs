//! What stands in front of the handlers: the key, CORS, permits, paths and methods.

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{client::Connection, grid::Grid};

#[tokio::test]
async fn with_a_key_only_the_probes_are_open() {
    let grid = Grid::start(&["--api-key", "open sesame"]).await;
    let mut connection = grid.connect().await;
    let body = json!({"inputs": "text"}).to_string();
    let key = [("authorization", "Bearer open sesame")];
    for (method, path) in [
        (Method::POST, "/embed"),
        (Method::GET, "/info"),
        (Method::GET, "/cache/stats"),
        (Method::POST, "/cache/clear"),
    ] {
        for wrong in [&[][..], &[("authorization", "Bearer guess")]] {
            let refused = connection.send(method.clone(), path, wrong, body.clone()).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        let admitted = connection.send(method, path, &key, body.clone()).await;
        assert_eq!(admitted.status, StatusCode::OK, "{path}");
    }
    for path in ["/health", "/livez", "/metrics"] {
        assert_eq!(connection.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_web_page_of_an_allowed_origin_may_call_and_no_other() {
    let grid = Grid::start(&["--cors-origin", "https://a.example", "--api-key", "key"]).await;
    let mut connection = grid.connect().await;
    let asks = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ]
    };
    let allowed = connection.send(Method::OPTIONS, "/embed", &asks("https://a.example"), "").await;
    assert_eq!(allowed.status, StatusCode::OK);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://a.example");
    assert!(allowed.header("access-control-allow-headers").contains("authorization"));
    let other = connection.send(Method::OPTIONS, "/embed", &asks("https://b.example"), "").await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    // A refusal can be read too.
    let body = json!({"inputs": "text"}).to_string();
    let refused = connection.send(Method::POST, "/embed", &[("origin", "https://a.example")], body).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header("access-control-allow-origin"), "https://a.example");
    assert!(refused.header("access-control-expose-headers").contains("x-cache"));
}

#[tokio::test]
async fn without_an_origin_configured_no_web_page_may_call() {
    let grid = Grid::start(&[]).await;
    let answer =
        grid.connect().await.send(Method::OPTIONS, "/embed", &[("origin", "https://a.example")], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn beyond_the_permits_requests_get_429_and_probes_are_answered() {
    let grid = Grid::start(&["--requests-max", "1"]).await;
    grid.fake.hold();
    let ask = async |mut connection: Connection| connection.embed(&json!({"inputs": "held"})).await;
    let held = tokio::spawn(ask(grid.connect().await));
    grid.fake.called(1).await;
    let mut connection = grid.connect().await;
    let refused = connection.embed(&json!({"inputs": "more"})).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    assert_eq!(connection.get("/health").await.status, StatusCode::OK);
    grid.fake.release();
    held.await.unwrap().rows();
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_named() {
    let grid = Grid::start(&[]).await;
    let mut connection = grid.connect().await;
    let unknown = connection.get("/embedd").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.json()["error"], "there is no path `/embedd` here");
    let wrong = connection.get("/embed").await;
    assert_eq!((wrong.status, wrong.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    assert_eq!(wrong.json()["error"], "`/embed` does not take GET");
}

#[tokio::test]
async fn info_says_what_is_served_and_what_a_request_may_hold() {
    let grid = Grid::start(&["--edition", "community", "--cache-ttl", "60"]).await;
    let info = grid.connect().await.get("/info").await.json();
    let model = json!({
        "id": "fake/model", "alias": "fake", "identity": "aa".repeat(32), "width": 4,
        "trained_dimensions": [4, 2], "tokens_max": 8, "precision": "float32", "pooling": "mean",
        "prompts": {}, "default_prompt_name": null,
    });
    let expected = json!({
        "service": "embedding-single", "version": embedding_single::VERSION, "edition": "community",
        "models": [model],
        "limits": {"texts_max": 512, "text_bytes_max": 262_144, "body_bytes_max": 8_388_608, "requests_max": 64},
        "cache": {"entries_max": 50_000, "bytes_max": 536_870_912, "ttl_seconds": 60.0},
    });
    assert_eq!(info, expected);
}

#[tokio::test]
async fn a_request_id_is_kept() {
    let grid = Grid::start(&[]).await;
    let answer = grid.connect().await.send(Method::GET, "/livez", &[("x-request-id", "mine-1")], "").await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
}

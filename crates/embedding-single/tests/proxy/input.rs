//! Bad input: a 4xx that names the field and the limit, in both shapes, over one connection that stays usable.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{client::Connection, grid::Grid};

const LIMITS: [&str; 8] = [
    "--edition",
    "simple",
    "--request-texts-max",
    "4",
    "--text-bytes-max",
    "1000",
    "--body-bytes-max",
    "20000",
];

/// Asserts a refusal of `body`, and that the next request on the same connection is answered.
async fn refused(connection: &mut Connection, body: Vec<u8>, status: StatusCode, field: &str, message: &str) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    let answer = connection.send(Method::POST, "/embed", &[("content-type", "application/json")], body).await;
    let json = answer.json();
    assert_eq!(answer.status, status, "{shown}: {json}");
    assert_eq!(json["field"].as_str().unwrap_or(""), field, "{shown}: {json}");
    assert!(json["error"].as_str().unwrap().contains(message), "{shown}: {json}");
    assert_eq!(connection.embed(&json!({"inputs": "fine"})).await.status, StatusCode::OK, "after {shown}");
}

#[tokio::test]
async fn bad_lists_are_refused_by_name_in_both_shapes() {
    let grid = Grid::start(&LIMITS).await;
    let mut connection = grid.connect().await;
    for list in ["texts", "inputs"] {
        let in_list = |value: Value| json!({ list: value }).to_string().into_bytes();
        let at = |index: usize| format!("{list}[{index}]");
        let (bad, wrong, large) =
            (StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::PAYLOAD_TOO_LARGE);
        let cases = [
            (in_list(json!([])), bad, list.to_owned(), "is empty"),
            (in_list(json!(["a", ""])), bad, at(1), "is empty"),
            (in_list(json!(["a", 5])), bad, at(1), "invalid type: integer `5`"),
            (in_list(json!(["a\0b"])), bad, at(0), "NUL character at byte 1"),
            (in_list(json!({"a": 1})), bad, list.to_owned(), "invalid type: map"),
            (in_list(json!(["a", "x".repeat(1001)])), wrong, at(1), "has 1001 bytes, the limit is 1000"),
            (in_list(json!(vec!["a"; 5])), large, list.to_owned(), "the limit of edition simple is 4"),
            (format!("{{\"{list}\": [\"a\\ud800\"]}}").into_bytes(), bad, String::new(), "JSON"),
            ([format!("{{\"{list}\": [\"a").as_bytes(), b"\xff\"]}"].concat(), bad, String::new(), "JSON"),
        ];
        for (body, status, field, message) in cases {
            refused(&mut connection, body, status, &field, message).await;
        }
    }
}

#[tokio::test]
async fn bad_options_are_refused_by_name_in_both_shapes() {
    let grid = Grid::start(&LIMITS).await;
    let mut connection = grid.connect().await;
    let (bad, wrong) = (StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY);
    let cases = [
        ("model", json!("tiny"), StatusCode::NOT_FOUND, "model", "these are: fake/model (fake)"),
        ("dimensions", json!(0), wrong, "dimensions", "is 0, the least is 1"),
        ("dimensions", json!(5), wrong, "dimensions", "is 5, the model has 4"),
        ("dimensions", json!(3), wrong, "dimensions", "is 3, the model was trained for 4, 2"),
        ("dimensions", json!(-1), bad, "dimensions", "invalid value: integer `-1`"),
        ("allow_untrained_dimensions", json!(3), bad, "allow_untrained_dimensions", "invalid type"),
        ("prompt_name", json!("query"), wrong, "prompt_name", "`query`"),
        ("cache_ttl_seconds", json!(0), wrong, "cache_ttl_seconds", "the least is 1"),
        ("normalise", json!(true), bad, "normalise", "unknown field"),
    ];
    for list in ["texts", "inputs"] {
        for (option, value, status, field, message) in cases.clone() {
            let body = json!({ list: ["a"], option: value }).to_string().into_bytes();
            refused(&mut connection, body, status, field, message).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_request_at_all_is_refused_and_the_connection_lives_on() {
    let grid = Grid::start(&LIMITS).await;
    let mut connection = grid.connect().await;
    let bad = StatusCode::BAD_REQUEST;
    refused(&mut connection, b"".to_vec(), bad, "", "JSON").await;
    refused(&mut connection, b"hello".to_vec(), bad, "", "JSON").await;
    refused(&mut connection, b"{}".to_vec(), bad, "texts", "is required").await;
    let large = vec![b' '; 20_001];
    refused(&mut connection, large, StatusCode::PAYLOAD_TOO_LARGE, "", "over the limit of 20000 bytes").await;
    let bomb = connection.send(Method::POST, "/embed", &[("content-encoding", "gzip")], vec![0; 100]).await;
    assert_eq!(bomb.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(connection.embed(&json!({"inputs": "fine"})).await.status, StatusCode::OK);
    let form = [("content-type", "text/plain")];
    let foreign = connection.send(Method::POST, "/embed", &form, r#"{"inputs": "a"}"#).await;
    assert_eq!(foreign.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let timeout = [("x-request-timeout-ms", "soon")];
    let unreadable = connection.send(Method::POST, "/embed", &timeout, r#"{"inputs": "a"}"#).await;
    assert_eq!((unreadable.status, unreadable.json()["field"].as_str()), (bad, Some("x-request-timeout-ms")));
    assert_eq!(connection.embed(&json!({"inputs": "fine"})).await.status, StatusCode::OK);
}

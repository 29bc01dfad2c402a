//! Another server in turns with ours: both forms of asking, the same texts, ratios, and refusals to start.

use std::collections::HashSet;

use axum::{Json, Router, response::IntoResponse, routing::post};
use serde_json::{Value, json};

use crate::{
    load,
    server::{FakeServer, vectors},
};

/// A server that has only `/v1/embeddings`; its address.
async fn openai_server() -> String {
    let embed = async |Json(body): Json<Value>| {
        assert_eq!(body["model"], "some-model");
        let texts = body["input"].as_array().unwrap().iter();
        let data: Vec<Value> =
            texts.map(|_| json!({ "object": "embedding", "embedding": [0.5, 1.0] })).collect();
        Json(json!({ "object": "list", "data": data, "usage": { "total_tokens": 1 } })).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/embeddings", post(embed));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn both_servers_get_the_same_texts_in_turns_and_ours_is_asked_to_leave_its_caches_aside() {
    let ours = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let peer = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let ran = load(&ours.url, &["--json", "--peer", &peer.url, "--rounds", "2"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.report();
    assert_eq!(report["ours"]["rounds_texts_per_second"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&report["peer"]["api"], &report["peer"]["requests"]),
        (&"/embed".into(), &(peer.asked().len() - 1).into())
    );
    assert!(report["texts_per_second_by_peer"].as_f64().unwrap() > 0.0);
    assert!(ours.asked().iter().all(|asked| asked.headers["cache-control"] == "no-cache"));
    // Both go through the same list; the peer's first is the question whether it speaks this API.
    let ours: HashSet<String> = ours.texts().into_iter().collect();
    let theirs: HashSet<String> = peer.texts().into_iter().skip(1).collect();
    assert!(ours.is_subset(&theirs) || theirs.is_subset(&ours), "{ours:?} {theirs:?}");
}

#[tokio::test]
async fn peer_that_speaks_only_openai_is_found_out() {
    let ours = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let peer = openai_server().await;
    let ran = load(&ours.url, &["--peer", &peer, "--peer-model", "some-model", "--rounds", "1"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for expected in ["/v1/embeddings", "ours by peer", "texts/s", &peer] {
        assert!(ran.stdout.contains(expected), "`{expected}` is missing in\n{}", ran.stdout);
    }
}

#[tokio::test]
async fn peer_that_gives_no_vectors_is_named_with_what_it_said() {
    let ours = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let peer = openai_server().await;
    let ran = load(&ours.url, &["--peer", &peer, "--peer-api", "embed"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("POST /embed: 404") && ran.stderr.contains(&peer), "{}", ran.stderr);
}

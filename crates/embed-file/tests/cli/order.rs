//! Rows stand in the order of the lines, and the request asks for what the flags say.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use crate::{
    run::{Folder, parse_lines},
    server::{FakeServer, TEXTS_MAX, vector_of},
};

#[tokio::test]
async fn rows_keep_the_order_of_the_lines_though_answers_come_out_of_order() {
    let later_answered = Arc::new(Notify::new());
    let server = FakeServer::start(move |asked| {
        let later_answered = Arc::clone(&later_answered);
        async move {
            if asked.inputs[0] == "text 0" {
                later_answered.notified().await;
            } else {
                later_answered.notify_one();
            }
            asked.vectors()
        }
    })
    .await;
    let texts: Vec<String> = (0..3 * TEXTS_MAX + 1).map(|index| format!("text {index}")).collect();
    let folder = Folder::with(texts.join("\n"));
    let ran = folder.run(&server.url, &["--out", "out.npy", "--concurrency", "2"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected: Vec<_> = texts.iter().map(|text| Some(vector_of(text))).collect();
    assert_eq!(folder.npy("out.npy"), expected);
    assert_eq!(server.asked().len(), 4, "a request holds as many texts as the server takes");
}

#[tokio::test]
async fn request_asks_for_what_the_flags_say() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let folder = Folder::with("a\n");
    std::fs::write(folder.path("key"), "s3cret\n").unwrap();
    let flags = ["--out", "-", "--model", "m", "--dimensions", "64", "--no-normalize", "--api-key", "@key"];
    let ran = folder.run(&server.url, &flags).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let asked = &server.asked()[0];
    let expected =
        json!({"inputs": ["a"], "truncate": true, "normalize": false, "dimensions": 64, "model": "m"});
    assert_eq!(asked.body, expected);
    assert_eq!(asked.headers["authorization"], "Bearer s3cret");
}

#[tokio::test]
async fn without_flags_the_server_decides() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let ran = Folder::with("a\n").run(&server.url, &["--out", "-"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(server.asked()[0].body, json!({"inputs": ["a"], "truncate": true, "normalize": true}));
    let rows = parse_lines(&ran.stdout);
    assert_eq!(rows, [json!({"line": 1, "embedding": vector_of("a")})]);
}

#[tokio::test]
async fn summary_as_json_counts_texts_failures_and_hits() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let folder = Folder::with("a\nb\n\nc\nd\n");
    let ran = folder.run(&server.url, &["--out", "out.jsonl", "--json"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let summary = &parse_lines(&ran.stdout)[0];
    assert_eq!((&summary["texts"], &summary["failed"]), (&json!(5), &json!(1)));
    // The fake counts one hit a request: lines 1 to 4 travel as three texts, line 5 alone.
    assert_eq!(summary["hit_rate"], json!(0.5));
    assert_eq!(summary["out"], "out.jsonl");
    assert_eq!(folder.jsonl("out.jsonl").len(), 5);
}

//! A text that fails costs its own row; what no text could pass ends the run.

use serde_json::json;

use crate::{
    run::Folder,
    server::{Asked, FakeServer, broken_off, refusal, vector_of},
};

const TEXTS: &str = "one\ntwo\nbad three\nfour\nfive\nbad six\nseven\n";

fn rows_without_the_bad() -> Vec<Option<Vec<f32>>> {
    TEXTS.lines().map(|text| (!text.starts_with("bad")).then(|| vector_of(text))).collect()
}

fn bad_at(asked: &Asked) -> Option<usize> {
    asked.position(|text| text.starts_with("bad"))
}

#[tokio::test]
async fn text_that_the_server_names_fails_alone() {
    let server = FakeServer::start(|asked| async move {
        let Some(index) = bad_at(&asked) else { return asked.vectors() };
        let field = format!("inputs[{index}]");
        refusal(400, json!({"error": format!("`{field}` is bad"), "field": field, "text_index": index}))
    })
    .await;
    let folder = Folder::with(TEXTS);
    let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(folder.npy("out.npy"), rows_without_the_bad());
    assert!(ran.stderr.contains("line 3: the text is bad (400)\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 6: the text is bad (400)\n"), "{}", ran.stderr);
    assert_eq!(server.asked().len(), 4, "two requests, and each once more without the bad text");
}

#[tokio::test]
async fn culprits_are_found_where_the_server_names_none() {
    for status in [413, 422, 500] {
        let server = FakeServer::start(move |asked| async move {
            match bad_at(&asked) {
                Some(_) => refusal(status, json!({"error": "something is bad"})),
                None => asked.vectors(),
            }
        })
        .await;
        let folder = Folder::with(TEXTS);
        let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
        assert_eq!(ran.code, Some(1), "{status}");
        assert_eq!(folder.npy("out.npy"), rows_without_the_bad(), "{status}");
    }
}

#[tokio::test]
async fn index_outside_the_request_does_not_stop_the_search() {
    let server = FakeServer::start(|asked| async move {
        match bad_at(&asked) {
            Some(_) => refusal(400, json!({"error": "bad", "text_index": 99})),
            None => asked.vectors(),
        }
    })
    .await;
    let folder = Folder::with(TEXTS);
    assert_eq!(folder.run(&server.url, &["--out", "out.npy"]).await.code, Some(1));
    assert_eq!(folder.npy("out.npy"), rows_without_the_bad());
}

#[tokio::test]
async fn answer_with_too_few_vectors_is_no_answer() {
    let server = FakeServer::start(|mut asked| async move {
        if asked.inputs.iter().any(|text| text.starts_with("bad")) {
            asked.inputs.pop();
        }
        asked.vectors()
    })
    .await;
    let folder = Folder::with(TEXTS);
    let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(folder.npy("out.npy"), rows_without_the_bad());
    assert!(ran.stderr.contains("0 vectors for 1 texts"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_no_text_could_pass_ends_the_run_with_the_servers_sentence() {
    for (status, field) in [(401, "authorization"), (404, "model"), (422, "dimensions")] {
        let server = FakeServer::start(move |_| async move {
            refusal(status, json!({"error": format!("`{field}` is not what it should be"), "field": field}))
        })
        .await;
        let folder = Folder::with(TEXTS);
        let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
        assert_eq!(ran.code, Some(2), "{field}");
        assert!(
            ran.stderr.contains(&format!("`{field}` is not what it should be ({status})")),
            "{}",
            ran.stderr
        );
        assert_eq!(folder.names(), ["texts.txt"], "{field}");
    }
}

#[tokio::test]
async fn server_that_is_not_there_is_named_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let folder = Folder::with(TEXTS);
    let ran = folder.run(&url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains(&url) && ran.stderr.contains("cargo xtask up"), "{}", ran.stderr);
    assert_eq!(folder.names(), ["texts.txt"]);
}

#[tokio::test]
async fn files_that_cannot_be_opened_are_named() {
    let server = FakeServer::start(|_| async { broken_off() }).await;
    let folder = Folder::with(TEXTS);
    let ran = folder.run(&server.url, &["--out", "missing/out.npy"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("cannot write missing/out.npy"), "{}", ran.stderr);
    std::fs::remove_file(folder.path("texts.txt")).unwrap();
    let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("cannot read texts.txt"), "{}", ran.stderr);
    let folder = Folder::with_input("texts.jsonl", "\"a\"");
    let ran = folder.run(&server.url, &["--out", "./texts.jsonl"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("are the same file"), "{}", ran.stderr);
}

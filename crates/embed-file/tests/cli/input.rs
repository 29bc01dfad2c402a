//! Lines that are no text fail alone, under their own number.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    run::{Folder, Ran, parse_lines},
    server::{FakeServer, TEXT_BYTES_MAX, vector_of},
};

#[tokio::test]
async fn invalid_empty_and_too_long_lines_fail_alone() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let long = vec![b'x'; TEXT_BYTES_MAX + 1];
    let bytes = [b"a\r\n\n\xff\xfe\r\n".as_slice(), &long, b"\r\nb"].concat();
    let folder = Folder::with(bytes);
    let ran = folder.run(&server.url, &["--out", "out.jsonl"]).await;
    assert_eq!(ran.code, Some(1));
    let rows = folder.jsonl("out.jsonl");
    assert_eq!(rows[0], json!({"line": 1, "embedding": vector_of("a")}));
    assert_eq!(rows[1], json!({"line": 2, "error": "the text is empty"}));
    assert_eq!(rows[2], json!({"line": 3, "error": "the line is not valid UTF-8 from byte 0"}));
    assert!(rows[3]["error"].as_str().unwrap().contains(&TEXT_BYTES_MAX.to_string()));
    assert_eq!(rows[4], json!({"line": 5, "embedding": vector_of("b")}));
    assert!(ran.stderr.contains("line 3: the line is not valid UTF-8 from byte 0\n"), "{}", ran.stderr);
}

#[tokio::test]
async fn json_lines_are_read() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let folder = Folder::with_input("texts.jsonl", "\"a\\nb\"\n{\"id\": 1, \"text\": \"c\"}\n");
    let ran = folder.run(&server.url, &["--out", "-"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(server.asked()[0].inputs, ["a\nb", "c"]);
}

#[tokio::test]
async fn standard_input_is_read() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let folder = Folder::with_input("-", "");
    let mut child = folder.command(&server.url, &["--out", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\nb").await.unwrap();
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(parse_lines(&ran.stdout).len(), 2);
    assert_eq!(server.asked()[0].inputs, ["a", "b"]);
}

#[tokio::test]
async fn more_failures_than_a_screen_holds_are_counted() {
    let server = FakeServer::start(|asked| async move { asked.vectors() }).await;
    let folder = Folder::with("\n".repeat(30));
    let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stderr.matches(": the text is empty").count(), 20);
    assert!(ran.stderr.contains("30 failed"), "{}", ran.stderr);
    assert_eq!(
        folder.npy("out.npy"),
        vec![None; 30],
        "the width comes from the server where no text has a vector"
    );
    assert!(server.asked().is_empty());
}

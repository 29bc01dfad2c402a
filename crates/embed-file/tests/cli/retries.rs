//! A server that is full, away or gone for a moment costs a wait; one that stays away costs its texts.

use crate::{
    run::Folder,
    server::{FakeServer, TEXTS_MAX, broken_off, not_now, vector_of},
};

#[tokio::test]
async fn refusals_that_pass_are_waited_out() {
    let server = FakeServer::start(|asked| async move {
        match asked.nth {
            0 => not_now(503),
            1 => not_now(429),
            2 => broken_off(),
            _ => asked.vectors(),
        }
    })
    .await;
    let folder = Folder::with("a\nb\n");
    let ran = folder.run(&server.url, &["--out", "out.npy"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(folder.npy("out.npy"), [Some(vector_of("a")), Some(vector_of("b"))]);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn server_that_stays_away_fails_every_text_but_is_waited_for_only_once() {
    let server = FakeServer::start(|_| async { not_now(503) }).await;
    let texts: Vec<String> = (0..50).map(|index| format!("text {index}")).collect();
    let folder = Folder::with(texts.join("\n"));
    let ran =
        folder.run(&server.url, &["--out", "out.jsonl", "--patience", "1s", "--concurrency", "1"]).await;
    assert_eq!(ran.code, Some(1));
    let rows = folder.jsonl("out.jsonl");
    assert_eq!(rows.len(), 50);
    for row in rows {
        assert_eq!(row["error"], "not now (503); the patience of 1s is used up");
    }
    let (first, later): (Vec<_>, Vec<_>) =
        server.asked().into_iter().partition(|asked| asked.inputs[0] == "text 0");
    assert!(first.len() > 1, "the first request waits and asks again");
    assert_eq!(later.len(), (50 - TEXTS_MAX).div_ceil(TEXTS_MAX), "each later one is tried once");
}

#[tokio::test]
async fn answer_that_never_comes_is_given_up() {
    let server = FakeServer::start(|asked| async move {
        if asked.inputs[0] == "slow" { std::future::pending().await } else { asked.vectors() }
    })
    .await;
    let folder = Folder::with("slow\n2\n3\n4\n5\n");
    let ran = folder.run(&server.url, &["--out", "out.npy", "--patience", "2s"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 1: the server does not answer: no answer in time"), "{}", ran.stderr);
    assert_eq!(folder.npy("out.npy"), [None, None, None, None, Some(vector_of("5"))]);
}

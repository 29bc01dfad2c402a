//! What is sent: no text twice, or few texts again and again.

use std::collections::HashSet;

use crate::{
    load,
    server::{FakeServer, vectors},
};

#[tokio::test]
async fn unique_sends_no_text_twice_and_says_how_many_it_reused() {
    let server = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let ran = load(&server.url, &["--unique", "--texts-per-request", "4", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let texts = server.texts();
    let distinct: HashSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len());
    assert!(texts.len() > 10, "the file is exhausted, so that texts are reused");
    assert_eq!(ran.report()["reused_texts"], texts.len() - 10);
    assert_eq!(ran.report()["texts"], texts.len());
    assert!(server.asked().iter().all(|asked| asked.inputs.len() == 4));
}

#[tokio::test]
async fn repeat_sends_every_text_once_before_it_draws() {
    let server = FakeServer::start(async |texts| vectors(texts, texts)).await;
    let ran = load(&server.url, &["--workload", "repeat", "--distinct", "5", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let texts = server.texts();
    let first: HashSet<_> = texts[..5].iter().collect();
    assert_eq!(first.len(), 5, "the first five fill the caches");
    assert!(texts.iter().all(|text| first.contains(text)));
    assert_eq!(ran.report()["requests"], texts.len() - 5, "filling the caches is not counted");
    assert_eq!(ran.report()["hit_rate"], 1.0);
}

#[tokio::test]
async fn each_client_keeps_one_connection() {
    let server = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let ran = load(&server.url, &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(server.connections(), 3);
    assert!(server.asked().len() > 3);
}

#[tokio::test]
async fn caches_are_left_aside_and_the_key_is_sent_when_asked() {
    let server = FakeServer::start(async |texts| vectors(texts, 0)).await;
    let ran = load(&server.url, &["--no-cache", "--workload", "repeat", "--api-key", "s3cret"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for asked in server.asked() {
        assert_eq!(asked.headers["cache-control"], "no-cache");
        assert_eq!(asked.headers["authorization"], "Bearer s3cret");
        assert_eq!(asked.inputs.len(), 1, "there is no cache to fill");
    }
}

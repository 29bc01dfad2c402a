//! A burst of bodies over the limit costs time, not memory.

use axum::body::Body;
use bytes::Bytes;
use e2e::{Door, Program, model_dir};
use futures::stream;
use hyper::{Request, StatusCode};
use tokio::task::JoinSet;

use crate::programs::{start_ml_base, start_proxy};

const LIMITS: [&str; 6] =
    ["--body-bytes-max", "1048576", "--body-budget-bytes", "33554432", "--text-bytes-max", "65536"];
const CLIENTS: usize = 32;
const BODIES: usize = 3;
/// Seven times the limit, in pieces without a length: as much as is still read, so that the sender sees the refusal.
const BODY_PIECES: usize = 112;
const PIECE_BYTES: usize = 64 << 10;
/// Room for the limit of each client, twice where it was copied to grow, and for what an allocator keeps. Whole bodies
/// would take 224 MiB at once.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

fn long_body() -> Body {
    let piece = Bytes::from(vec![b' '; PIECE_BYTES]);
    let pieces = std::iter::repeat_n(piece, BODY_PIECES).map(Ok::<_, std::io::Error>);
    Body::from_stream(stream::iter(pieces))
}

async fn burst(door: Door) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = door.connect().await;
            for _ in 0..BODIES {
                let answer = client.send(Request::post("/embed").body(long_body()).unwrap()).await;
                assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.shown());
            }
            assert_eq!(client.embed(&["a good text"]).await.rows().len(), 1);
        });
    }
    clients.join_all().await;
}

async fn assert_bounded(program: &Program, name: &str) {
    let door = program.ready().await;
    // What the first request needs for good is not what the burst costs.
    door.embed(&["a text", "another one"]).await.rows();
    let before = program.memory();
    burst(door).await;
    let after = program.memory();
    let growth = |after: u64, before: u64| after.saturating_sub(before);
    let held = growth(after.resident_bytes, before.resident_bytes);
    let peak = growth(after.peak_bytes, before.peak_bytes);
    let sent = CLIENTS * BODIES * BODY_PIECES * PIECE_BYTES;
    assert!(sent as u64 > 4 * GROWTH_BYTES_MAX);
    assert!(
        held < GROWTH_BYTES_MAX && peak < GROWTH_BYTES_MAX,
        "{name} grew by {held}, at most by {peak} bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_do_not_take_memory() {
    let Some(model) = model_dir("memory::bodies_over_the_limit_do_not_take_memory") else { return };
    let ml_base = start_ml_base(&model, &[&["--port", "0"], &LIMITS[..]].concat());
    let proxy = start_proxy(ml_base.ready().await, &LIMITS);
    assert_bounded(&proxy, "embedding-single").await;
    assert_bounded(&ml_base, "ml-base").await;
}

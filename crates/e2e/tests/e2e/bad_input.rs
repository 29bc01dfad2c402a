//! Bad input at both doors: a 4xx that names the field and the limit, over one connection that stays usable.

use axum::body::Body;
use bytes::Bytes;
use e2e::{Answer, Client, Door, Grid};
use futures::stream;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::texts::long_text;

const BODY_BYTES_MAX: usize = 8 << 20;
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Status, field, a part of the sentence. In the field, `LIST` stands for the name of the list.
type Refusal = (u16, &'static str, &'static str);
/// What it is, what is sent, what comes back.
type Case<Sent> = (&'static str, Sent, Refusal);

/// Asserts a refusal with a sentence about `field` that has `says` in it, and that the connection is good for more.
async fn assert_refused(client: &mut Client, answer: &Answer, case: &str, refusal: (u16, &str, &str)) {
    let (status, field, says) = refusal;
    let error = answer.json();
    let shown = answer.shown();
    assert_eq!(answer.status.as_u16(), status, "{case}: {shown}");
    assert_eq!(error["field"].as_str().unwrap_or(""), field, "{case}: {shown}");
    let sentence = error["error"].as_str().unwrap_or_else(|| panic!("{case}: no `error` in {shown}"));
    assert!(sentence.contains(says), "{case}: {shown}");
    assert!(sentence.len() <= 400 && !sentence.contains('\n'), "{case}: one sentence, not {sentence}");
    assert!(error["code"].is_string(), "{case}: {shown}");
    let next = client.ask(&json!({"inputs": "a good text"})).await;
    assert_eq!(next.rows().len(), 1, "after {case}");
}

async fn post(client: &mut Client, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let request = Request::post("/embed");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(body.into()).unwrap()).await
}

/// Wrong lists of texts.
fn bad_lists() -> Vec<Case<Value>> {
    vec![
        ("an empty list", json!([]), (400, "LIST", "is empty")),
        ("an empty text", json!(["a", ""]), (400, "LIST[1]", "is empty")),
        ("a number for a text", json!(["a", 5]), (400, "LIST[1]", "invalid type: integer `5`")),
        ("null for a text", json!([null]), (400, "LIST[0]", "invalid type: null")),
        ("a list for a text", json!([["a"]]), (400, "LIST[0]", "invalid type: sequence")),
        ("an object for the list", json!({"a": 1}), (400, "LIST", "invalid type: map")),
        ("a number for the list", json!(1), (400, "LIST", "invalid type: integer `1`")),
        ("NUL", json!(["a\0b"]), (400, "LIST[0]", "NUL character at byte 1")),
        (
            "a text of 1e6 characters",
            json!(["a", "x".repeat(1_000_000)]),
            (422, "LIST[1]", "has 1000000 bytes, the limit is 262144"),
        ),
        (
            "10,000 texts",
            json!(vec!["a"; 10_000]),
            (413, "LIST", "holds 10000 texts, the limit of edition enterprise is 2048"),
        ),
    ]
}

/// Fields beside the list that are wrong.
fn bad_fields() -> Vec<(&'static str, Value, (u16, &'static str))> {
    vec![
        ("model", json!("tiny"), (404, "all-MiniLM-L6-v2")),
        ("model", json!(7), (400, "invalid type: integer `7`")),
        ("dimensions", json!(0), (422, "is 0, the least is 1")),
        ("dimensions", json!(5000), (422, "is 5000, the model has 384")),
        ("dimensions", json!(383), (422, "is 383, the model was trained for 384")),
        ("dimensions", json!(-1), (400, "invalid value: integer `-1`")),
        ("dimensions", json!(1e30), (400, "invalid type: floating point")),
        ("normalize", json!("yes"), (400, "invalid type: string")),
        ("normalise", json!(true), (400, "unknown field `normalise`")),
        ("prompt_name", json!("query"), (422, "`query`")),
        ("cache_ttl_seconds", json!(0), (422, "is 0, the least is 1")),
    ]
}

/// Bodies that are no JSON, or not the JSON of a request; `LIST` stands for the name of the list.
fn bad_bodies() -> Vec<Case<Vec<u8>>> {
    vec![
        ("nothing", b"".to_vec(), (400, "", "not valid JSON")),
        ("no JSON", b"a text".to_vec(), (400, "", "not valid JSON")),
        ("half a body", br#"{"LIST": ["a""#.to_vec(), (400, "", "not valid JSON")),
        ("invalid UTF-8", b"{\"LIST\": [\"a\xff\"]}".to_vec(), (400, "", "not valid JSON")),
        ("a lone surrogate", br#"{"LIST": ["a\ud800"]}"#.to_vec(), (400, "", "not valid JSON")),
        ("a number out of range", br#"{"LIST": [1e999]}"#.to_vec(), (400, "", "not valid JSON")),
        (
            "deep JSON",
            [br#"{"LIST": "#.to_vec(), b"[".repeat(100_000)].concat(),
            (400, "LIST[0]", "invalid type: sequence"),
        ),
        (
            "deep JSON in an unknown field",
            [br#"{"LIST": ["a"], "x": "#.to_vec(), b"[".repeat(100_000)].concat(),
            (400, "x", "unknown field `x`"),
        ),
        ("a field twice", br#"{"LIST": ["a"], "LIST": ["b"]}"#.to_vec(), (400, "", "duplicate field")),
        ("something after the body", br#"{"LIST": ["a"]} {}"#.to_vec(), (400, "", "goes on after")),
        (
            "both lists",
            br#"{"texts": ["a"], "inputs": ["a"]}"#.to_vec(),
            (400, "inputs", "exclude each other"),
        ),
        ("no list", b"{}".to_vec(), (400, "texts", "is required")),
        ("a list for a body", br#"["a"]"#.to_vec(), (400, "", "not what POST /embed takes")),
    ]
}

async fn bad_json_at(door: Door) {
    let client = &mut door.connect().await;
    for list in ["texts", "inputs"] {
        for (case, value, (status, field, says)) in bad_lists() {
            let answer = client.ask(&json!({list: value})).await;
            let field = field.replace("LIST", list);
            assert_refused(client, &answer, &format!("{case} in `{list}`"), (status, &field, says)).await;
        }
        for (field, value, (status, says)) in bad_fields() {
            let answer = client.ask(&json!({list: ["a"], field: value})).await;
            assert_refused(client, &answer, &format!("`{field}`: {value}"), (status, field, says)).await;
        }
        for (case, body, (status, field, says)) in bad_bodies() {
            let answer = post(client, &JSON, renamed(&body, list)).await;
            let field = field.replace("LIST", list);
            assert_refused(client, &answer, &format!("{case} in `{list}`"), (status, &field, says)).await;
        }
    }
}

/// The body with `LIST` replaced; bytes, for not all bodies are text.
fn renamed(body: &[u8], list: &str) -> Vec<u8> {
    let mut renamed = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.windows(4).position(|window| window == b"LIST") {
        renamed.extend_from_slice(&rest[..at]);
        renamed.extend_from_slice(list.as_bytes());
        rest = &rest[at + 4..];
    }
    renamed.extend_from_slice(rest);
    renamed
}

/// 8 MiB and one byte of JSON that would be good if it were shorter.
fn too_long_a_body() -> Vec<u8> {
    let mut body = br#"{"inputs": "a"}"#.to_vec();
    body.resize(BODY_BYTES_MAX + 1, b' ');
    body
}

fn in_pieces(body: Vec<u8>) -> Body {
    let pieces: Vec<_> =
        body.chunks(64 << 10).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// A gzip member that unpacks to about 20 times the limit: one NUL, and then "258 bytes as the last one" all over again.
fn gzip_bomb() -> Vec<u8> {
    let (mut packed, mut bits, mut count) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], 0_u32, 0);
    let mut write = |code: u32, length: u32| {
        bits |= code << count;
        count += length;
        while count >= 8 {
            packed.push((bits & 0xff) as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    // The last block, of fixed codes; the literal 0. Codes of symbols are written from their highest bit down.
    write(0b011, 3);
    write(0b0000_1100, 8);
    for _ in 0..20 * BODY_BYTES_MAX / 258 {
        write(0b1010_0011, 8);
        write(0, 5);
    }
    write(0, 7 + 8);
    packed
}

async fn bad_requests_at(door: Door) {
    let client = &mut door.connect().await;
    let over = format!("over the limit of {BODY_BYTES_MAX} bytes");
    let answer = post(client, &JSON, too_long_a_body()).await;
    assert_refused(client, &answer, "a long body", (413, "", &over)).await;
    let answer = post(client, &JSON, in_pieces(too_long_a_body())).await;
    assert_refused(client, &answer, "a long body in pieces", (413, "", &over)).await;
    let compressed = [JSON[0], ("content-encoding", "gzip")];
    let answer = post(client, &compressed, gzip_bomb()).await;
    assert_refused(client, &answer, "a bomb", (415, "content-encoding", "send the body uncompressed")).await;
    let answer = post(client, &[("content-type", "text/plain")], r#"{"inputs": "a"}"#).await;
    assert_refused(client, &answer, "plain text", (415, "content-type", "send application/json")).await;
    let answer = post(client, &[("x-request-timeout-ms", "soon")], r#"{"inputs": "a"}"#).await;
    assert_refused(client, &answer, "a bad deadline", (400, "x-request-timeout-ms", "milliseconds")).await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(&method).uri("/embed").body(Body::empty()).unwrap();
        let answer = client.send(request).await;
        let says = format!("`/embed` does not take {method}");
        assert_refused(client, &answer, "a wrong method", (405, "", &says)).await;
    }
    let answer = client.get("/embeddings").await;
    assert_refused(client, &answer, "a wrong path", (404, "", "`/embeddings`")).await;
}

/// A body that is announced to be larger than anybody would read to its end is refused before it is sent.
async fn huge_announcement_at(door: Door) {
    let mut stream = TcpStream::connect(door.0).await.unwrap();
    let head = "POST /embed HTTP/1.1\r\nhost: grid\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    e2e::within_patience("a refusal", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_json_is_refused_by_name_in_both_shapes_at_both_doors() {
    let Some(grid) = Grid::start("bad_input::bad_json_is_refused_by_name_in_both_shapes_at_both_doors").await
    else {
        return;
    };
    bad_json_at(grid.proxy()).await;
    bad_json_at(grid.ml_base()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name_at_both_doors() {
    let Some(grid) = Grid::start("bad_input::bad_requests_are_refused_by_name_at_both_doors").await else {
        return;
    };
    for door in [grid.proxy(), grid.ml_base()] {
        bad_requests_at(door).await;
        huge_announcement_at(door).await;
    }
}

/// Each text is within its limits, but all of them would not fit into the queue even if it were empty: an answer that
/// says "later" would be asked for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_more_tokens_than_ml_base_ever_queues_is_refused_for_good() {
    let builder =
        Grid::builder("bad_input::a_list_with_more_tokens_than_ml_base_ever_queues_is_refused_for_good");
    let Some(grid) = builder.ml_base(&["--queue-tokens-max", "8192"]).start().await else { return };
    let mut client = grid.ml_base().connect().await;
    let texts: Vec<String> = (0..33).map(long_text).collect();
    let answer = client.embed(&texts).await;
    let says = "have 8448 tokens, the limit is 8192 a call";
    assert_refused(&mut client, &answer, "too many tokens", (413, "", says)).await;
    assert_eq!(client.embed(&texts[..4]).await.rows().len(), 4);
}

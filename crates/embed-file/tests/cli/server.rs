//! A fake embedding server: its vectors are arithmetic on the text, its moods are the test's.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// Texts of a request, small so that short files make several requests.
pub(crate) const TEXTS_MAX: usize = 4;
/// Bytes of a text.
pub(crate) const TEXT_BYTES_MAX: usize = 100;

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Counted from 0, over the life of the server.
    pub(crate) nth: usize,
    pub(crate) inputs: Vec<String>,
    pub(crate) body: Value,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    /// 200, with a vector for each text.
    pub(crate) fn vectors(&self) -> Response {
        let rows: Vec<_> = self.inputs.iter().map(|text| vector_of(text)).collect();
        ([("x-cache-hits", "1"), ("x-model-identity", "fake")], Json(rows)).into_response()
    }

    /// Where the first text that fits is.
    pub(crate) fn position(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        self.inputs.iter().position(|text| fits(text))
    }
}

/// The vector that a text has here; exact in float32.
pub(crate) fn vector_of(text: &str) -> Vec<f32> {
    let bytes = text.bytes().map(f32::from);
    vec![bytes.clone().sum(), bytes.fold(0.0, |sum, byte| (sum * 3.0 + byte) % 1021.0), -0.5]
}

/// A refusal as the real server words it.
pub(crate) fn refusal(status: u16, mut named: Value) -> Response {
    named["code"] = json!("some_code");
    (StatusCode::from_u16(status).unwrap(), Json(named)).into_response()
}

/// 429 or 503, to be asked again at once.
pub(crate) fn not_now(status: u16) -> Response {
    (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, "0")], Json(json!({"error": "not now"})))
        .into_response()
}

/// An answer that breaks off, and the connection with it.
pub(crate) fn broken_off() -> Response {
    let start = Ok("[[1.0,");
    Body::from_stream(futures::stream::iter([start, Err(std::io::Error::other("cut"))])).into_response()
}

type Answer = Arc<dyn Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    answer: Answer,
    count: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A running fake; it ends with the test's runtime.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeServer {
    /// Serves on a free port; `answer` decides on each `POST /embed`.
    pub(crate) async fn start<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            answer: Arc::new(move |asked| Box::pin(answer(asked))),
            count: Arc::default(),
            asked: Arc::clone(&asked),
        };
        let router = Router::new().route("/info", get(info)).route("/embed", post(embed)).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    /// Every `POST /embed` so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn info() -> Json<Value> {
    Json(json!({
        "limits": {"texts_max": TEXTS_MAX, "text_bytes_max": TEXT_BYTES_MAX, "body_bytes_max": 1_000_000},
        "models": [{"id": "fake-model", "width": 3}],
        "edition": "whatever else is told",
    }))
}

async fn embed(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let inputs = serde_json::from_value(body["inputs"].clone()).unwrap();
    let asked = Asked { nth: shared.count.fetch_add(1, Ordering::SeqCst), inputs, body, headers };
    shared.asked.lock().unwrap().push(asked.clone());
    (shared.answer)(asked).await
}

//! A fake embedding server that remembers what it was asked and by how many connections.

use std::{
    collections::HashSet,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) inputs: Vec<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: SocketAddr,
}

/// 200, with a vector for each text, `hits` of them from a cache.
pub(crate) fn vectors(texts: usize, hits: usize) -> Response {
    let rows = vec![[0.5, 0.25]; texts];
    ([("x-cache-hits", hits.to_string())], Json(rows)).into_response()
}

/// A refusal as the real server words it.
pub(crate) fn refusal(status: u16, code: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({"error": "a sentence", "code": code})))
        .into_response()
}

/// A running fake; it ends with the test's runtime.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeServer {
    /// Serves on a free port; `answer` gets the number of texts of each `POST /embed`.
    pub(crate) async fn start<F>(answer: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let embed = async move |State(asked): State<Arc<Mutex<Vec<Asked>>>>,
                                ConnectInfo(peer): ConnectInfo<SocketAddr>,
                                headers: HeaderMap,
                                Json(body): Json<Value>| {
            let inputs: Vec<String> = serde_json::from_value(body["inputs"].clone()).unwrap();
            let texts = inputs.len();
            asked.lock().unwrap().push(Asked { inputs, headers, peer });
            answer(texts).await
        };
        let router = Router::new()
            .route("/health", get(async || "ready"))
            .route("/embed", post(embed))
            .with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { url, asked }
    }

    /// Every `POST /embed` so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Every text so far, in the order of arrival.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.asked().into_iter().flat_map(|asked| asked.inputs).collect()
    }

    /// Connections that carried a `POST /embed`.
    pub(crate) fn connections(&self) -> usize {
        self.asked().iter().map(|asked| asked.peer).collect::<HashSet<_>>().len()
    }
}

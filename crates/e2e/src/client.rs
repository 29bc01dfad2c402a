//! A client as people write them: one HTTP/1.1 connection, kept open from request to request.

use std::net::SocketAddr;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::until::{until, within_patience};

/// Where a service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door(pub SocketAddr);

impl Door {
    /// A new connection.
    ///
    /// # Panics
    /// If nobody accepts it.
    pub async fn connect(self) -> Client {
        self.try_connect().await.unwrap_or_else(|error| panic!("{} does not answer: {error}", self.0))
    }

    async fn try_connect(self) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { sender, door: self })
    }

    /// The answer to a GET, over a connection of its own.
    pub async fn get(self, path: &str) -> Answer {
        self.connect().await.get(path).await
    }

    /// The answer to a POST without a body, over a connection of its own.
    pub async fn post(self, path: &str) -> Answer {
        let request = Request::post(path).body(Body::empty()).unwrap();
        self.connect().await.send(request).await
    }

    /// The answer to a POST with this body, over a connection of its own.
    pub async fn post_json(self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.connect().await.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// The answer to `POST /embed` with these texts, over a connection of its own.
    pub async fn embed(self, texts: &[impl AsRef<str>]) -> Answer {
        self.connect().await.embed(texts).await
    }

    /// The sum of a metric over all its labels; 0 where it was never counted.
    ///
    /// # Panics
    /// If it is no whole number.
    pub async fn metric(self, name: &str) -> u64 {
        self.metric_of(name, "").await
    }

    /// The same, over those of its lines that hold `label`, as `path="/embed"`.
    ///
    /// # Panics
    /// If it is no whole number.
    pub async fn metric_of(self, name: &str, label: &str) -> u64 {
        let answer = self.get("/metrics").await;
        let text = String::from_utf8_lossy(&answer.body);
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole_name = rest.starts_with([' ', '{']);
            rest.rsplit(' ').next().filter(|_| is_whole_name && rest.contains(label))
        });
        values.map(|value| value.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {value}"))).sum()
    }

    /// Waits until `/health` says 200; also for a service whose port is not open yet.
    pub async fn ready(self) {
        until(&format!("{} is ready", self.0), async || {
            let mut client = self.try_connect().await.ok()?;
            let request = Request::get("/health").header("host", "grid").body(Body::empty()).unwrap();
            let answer = client.try_send(request).await.ok()?;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The vectors, from an answer of either shape: (texts, width).
    ///
    /// # Panics
    /// If it holds none.
    pub fn rows(&self) -> Vec<Vec<f32>> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.shown());
        let json = self.json();
        serde_json::from_value(json.get("embeddings").cloned().unwrap_or(json)).unwrap()
    }

    /// The vectors as they were written, from an answer of either shape.
    ///
    /// # Panics
    /// If it holds none.
    pub fn rows_as_written(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.shown());
        let text = std::str::from_utf8(&self.body).unwrap();
        let start = text.find("[[").unwrap();
        let end = text.rfind("]]").unwrap() + 2;
        &text[start..end]
    }

    /// Status and the beginning of the body, for messages.
    pub fn shown(&self) -> String {
        const SHOWN_MAX: usize = 300;
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN_MAX)]);
        format!("{}: {body}", self.status)
    }
}

/// One connection. It is not opened anew: a request over a connection that has ended panics.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Body>,
    door: Door,
}

impl Client {
    /// `POST /embed` in the `texts` shape.
    pub async fn embed(&mut self, texts: &[impl AsRef<str>]) -> Answer {
        let texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
        self.ask(&json!({"texts": texts})).await
    }

    /// `POST /embed` with this body.
    pub async fn ask(&mut self, body: &Value) -> Answer {
        self.ask_with(&[], body).await
    }

    /// `POST /embed` with these headers and this body.
    pub async fn ask_with(&mut self, headers: &[(&str, &str)], body: &Value) -> Answer {
        let request = Request::post("/embed").header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = Request::builder().method(Method::GET).uri(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Any request.
    ///
    /// # Panics
    /// If the connection is not usable any more, or no whole answer comes.
    pub async fn send(&mut self, mut request: Request<Body>) -> Answer {
        request.headers_mut().entry("host").or_insert("grid".parse().unwrap());
        let what = format!("{} answers {} {}", self.door.0, request.method(), request.uri());
        let answer = within_patience(&what, self.try_send(request)).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn try_send(&mut self, request: Request<Body>) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

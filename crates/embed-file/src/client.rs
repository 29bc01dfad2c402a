//! One request to the server: JSON out, vectors or a refusal back. It never asks twice; that is the courier's part.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};

const ANSWER_BYTES_MAX: usize = 256 << 20;
const INFO_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is and how to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Scheme, host, port and perhaps a path before `/embed`.
    pub(crate) base: Uri,
    /// Value of the `authorization` header.
    pub(crate) bearer: Option<HeaderValue>,
}

/// The body of `POST /embed` in its `inputs` shape.
#[derive(Debug, Serialize)]
pub(crate) struct EmbedBody<'a> {
    /// Texts, in the order of the rows of the answer.
    pub(crate) inputs: &'a [&'a str],
    /// Cut a text to what the model takes, instead of refusing it.
    pub(crate) truncate: bool,
    /// Scale to unit norm.
    pub(crate) normalize: bool,
    /// Width of the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dimensions: Option<NonZeroU32>,
    /// Id or alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<&'a str>,
}

/// A 200: one vector a text.
#[derive(Debug)]
pub(crate) struct Vectors {
    /// (texts, dimensions)
    pub(crate) rows: Vec<Vec<f32>>,
    /// Texts that came out of a cache.
    pub(crate) hits: u64,
    /// Names the weights, tokenizer and pooling that made them.
    pub(crate) identity: Option<String>,
}

/// Any other status.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The server's sentence.
    pub(crate) message: String,
    /// What the sentence is about.
    pub(crate) field: Option<String>,
    /// The text at fault, counted from 0 in the request.
    pub(crate) text_index: Option<usize>,
    /// When to ask again.
    pub(crate) retry_after: Option<Duration>,
}

/// What the server says of itself; fields it does not tell stay at cautious values.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    /// What one request may hold.
    pub(crate) limits: Limits,
    /// The models, the default one first.
    pub(crate) models: Vec<ModelInfo>,
}

/// What one request may hold.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// Texts of a request.
    pub(crate) texts_max: usize,
    /// Bytes of a text, in UTF-8.
    pub(crate) text_bytes_max: usize,
    /// Bytes of a request body.
    pub(crate) body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { texts_max: 32, text_bytes_max: 1 << 20, body_bytes_max: 2 << 20 }
    }
}

/// A model behind the server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelInfo {
    /// Its id, as `--model` takes it.
    pub(crate) id: String,
    /// Numbers in a vector that is not cut.
    pub(crate) width: Option<u32>,
}

/// Keeps connections to one server.
#[derive(Debug)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Client {
    /// A client without a connection yet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector), endpoint }
    }

    /// Asks the server for its limits.
    ///
    /// # Errors
    /// One sentence that says what to do, where nothing answers or what answers is no embedding server.
    pub(crate) async fn info(&self) -> anyhow::Result<Info> {
        let base = &self.endpoint.base;
        let asked = tokio::time::timeout(INFO_TIMEOUT, self.send(Method::GET, "/info", Bytes::new())).await;
        let (status, _, body) = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => bail!("no server answers at {base}: {cause}; start one with `cargo xtask up`"),
            Err(_) => bail!("no answer from {base} in {} s; see `cargo xtask up`", INFO_TIMEOUT.as_secs()),
        };
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .with_context(|| format!("what answers at {base} is no embedding server, GET /info")),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Ok(Info::default()),
            other => bail!("GET {} answered {other}: {}", self.url("/info"), sentence(&body)),
        }
    }

    /// Sends one `POST /embed`.
    ///
    /// # Errors
    /// A sentence, where no whole answer came back.
    pub(crate) async fn embed(&self, body: Bytes) -> Result<Result<Vectors, Refusal>, String> {
        let (status, headers, body) = self.send(Method::POST, "/embed", body).await?;
        if status != StatusCode::OK {
            return Ok(Err(refusal(status, &headers, &body)));
        }
        match serde_json::from_slice(&body) {
            Ok(rows) => Ok(Ok(Vectors {
                rows,
                hits: number(&headers, "x-cache-hits").unwrap_or(0),
                identity: text(&headers, "x-model-identity").map(str::to_owned),
            })),
            Err(error) => Ok(Err(Refusal {
                message: format!("the answer is no list of vectors: {error}"),
                ..Refusal::default()
            })),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint.base.to_string().trim_end_matches('/'))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let mut request =
            Request::builder().method(method).uri(self.url(path)).header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = &self.endpoint.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let (head, body) = self.pool.request(request).await.map_err(|error| root_cause(&error))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| format!("the answer broke off: {error}"))?;
        Ok((head.status, head.headers, body.to_bytes()))
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        field: Option<String>,
        text_index: Option<usize>,
    }
    let named: Body = serde_json::from_slice(body).unwrap_or_default();
    Refusal {
        status,
        message: format!("{} ({})", sentence(body), status.as_u16()),
        field: named.field,
        text_index: named.text_index,
        retry_after: number(headers, RETRY_AFTER.as_str()).map(Duration::from_secs),
    }
}

/// The server's own sentence where the body has one.
fn sentence(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    const SHOWN_MAX: usize = 200;
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { error }) => error,
        Err(_) if body.is_empty() => "the server gives no reason".to_owned(),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(SHOWN_MAX)]).replace(['\n', '\r'], " "),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// The innermost error, which is the one that says "connection refused".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

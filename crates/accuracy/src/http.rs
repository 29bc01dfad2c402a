//! JSON over HTTP/1.1, and nothing else of it.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

/// For one answer, a batch of long texts on a slow machine included.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A batch at the widest vector that the protocol knows takes a tenth of this.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    base: Uri,
    bearer: Option<HeaderValue>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// The server at `base`, which may ask for a key.
    pub(crate) fn new(base: Uri, bearer: Option<HeaderValue>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { base, bearer, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Status and body of a GET; null for a body that is no JSON.
    ///
    /// # Errors
    /// Where no whole answer comes.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Value)> {
        let (status, _, body) = self.send(Method::GET, path, Bytes::new()).await?;
        Ok((status, body))
    }

    /// Headers and body of a POST that has to succeed, with the caches of the server left aside.
    ///
    /// # Errors
    /// Where no whole answer comes or it is a refusal.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(HeaderMap, Value)> {
        let (status, headers, body) = self.send(Method::POST, path, body.to_string().into()).await?;
        if status != StatusCode::OK {
            bail!("POST {path} answered {}", refusal(status, &body));
        }
        Ok((headers, body))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Value)> {
        let base = self.base.to_string();
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", base.trim_end_matches('/')))
            .header(CONTENT_TYPE, "application/json")
            .header(CACHE_CONTROL, "no-cache");
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body))?;
        let answer = timeout(ANSWER_TIMEOUT, self.answer(request)).await;
        let answer = answer.with_context(|| format!("{method} {path}: no answer in {ANSWER_TIMEOUT:?}"))?;
        answer.with_context(|| format!("{method} {path}"))
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, HeaderMap, Value)> {
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!(error).context("read the answer"))?.to_bytes();
        Ok((head.status, head.headers, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// Status and sentence of a refusal.
pub(crate) fn refusal(status: StatusCode, body: &Value) -> String {
    match body["error"].as_str() {
        Some(sentence) => format!("{status}: {sentence}"),
        None => status.to_string(),
    }
}

//! One client: one keep-alive connection, one request at a time. A pool would now and then open a second one.

use std::{borrow::Cow, time::Duration};

use anyhow::bail;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::api::Api;

/// The server under load and how it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Scheme, host and port.
    pub(crate) base: Uri,
    /// The form in which it is asked.
    pub(crate) api: Api,
    /// Value of the `authorization` header.
    pub(crate) bearer: Option<HeaderValue>,
    /// Ask the server to leave its caches aside.
    pub(crate) no_cache: bool,
    /// When a request counts as failed.
    pub(crate) timeout: Duration,
}

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200 with a vector a text, `hits` of them from a cache.
    Answered { hits: u64 },
    /// Anything else that came back, in a few words that can be counted.
    Failed(String),
    /// Nothing came back in time.
    TimedOut,
}

/// A client with a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    /// Taken while a request is on its way: one that is given up takes its connection with it.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client without a connection yet.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, connection: None }
    }

    /// Makes sure that a server is there.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub(crate) async fn check(&mut self) -> anyhow::Result<()> {
        let answer = timeout(self.target.timeout, self.send(Method::GET, "/health", Bytes::new())).await;
        let base = &self.target.base;
        match answer {
            Ok(Ok((StatusCode::OK, ..))) => Ok(()),
            Ok(Ok((status, ..))) => bail!("the server at {base} is not ready: GET /health answered {status}"),
            Ok(Err(cause)) => bail!("no server answers at {base}: {cause}; start one with `cargo xtask up`"),
            Err(_) => bail!("the server at {base} does not answer GET /health"),
        }
    }

    /// Sends `texts` and waits for the whole answer.
    pub(crate) async fn embed(&mut self, texts: &[Cow<'_, str>]) -> Outcome {
        let body = match self.target.api.body(texts) {
            Ok(body) => body,
            Err(error) => return Outcome::Failed(format!("request: {error}")),
        };
        let path = self.target.api.path();
        match timeout(self.target.timeout, self.send(Method::POST, path, body)).await {
            Ok(Ok((StatusCode::OK, headers, body))) => {
                read_answer(&self.target.api, &headers, &body, texts.len())
            }
            Ok(Ok((status, _, body))) => Outcome::Failed(name_refusal(status, &body)),
            Ok(Err(cause)) => Outcome::Failed(format!("connection: {cause}")),
            Err(_) => Outcome::TimedOut,
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let request = self.request(method, path, body)?;
        let mut connection = self.connected().await?;
        let answer = connection.send_request(request).await.map_err(|error| root_cause(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| root_cause(&error))?;
        self.connection = Some(connection);
        Ok((head.status, head.headers, body.to_bytes()))
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let Target { base, bearer, no_cache, .. } = &self.target;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", base.path().trim_end_matches('/')))
            .header(HOST, base.authority().map_or("", |authority| authority.as_str()))
            .header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if *no_cache {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        request.body(Full::new(body)).map_err(|error| error.to_string())
    }

    /// The connection once it can take a request; a new one where the server has closed it.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, String> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let host = self.target.base.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.target.base.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (connection, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| root_cause(&error))?;
        // Ends with the connection; whoever sends on it sees the error.
        tokio::spawn(driver);
        Ok(connection)
    }
}

fn read_answer(api: &Api, headers: &HeaderMap, body: &[u8], texts: usize) -> Outcome {
    if !api.answers(body, texts) {
        return Outcome::Failed("200 with a wrong number of vectors".to_owned());
    }
    let hits = headers.get("x-cache-hits").and_then(|value| value.to_str().ok()?.parse().ok());
    Outcome::Answered { hits: hits.unwrap_or(0) }
}

fn name_refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        code: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { code }) => format!("{} {code}", status.as_u16()),
        Err(_) => status.to_string(),
    }
}

/// The innermost error, which is the one that says "connection refused".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_those_of_the_header() {
        let headers =
            HeaderMap::from_iter([("x-cache-hits".parse().unwrap(), HeaderValue::from_static("1"))]);
        let read = |body: &[u8]| read_answer(&Api::Embed, &headers, body, 2);
        assert_eq!(read(b"[[1,2],[3,4]]"), Outcome::Answered { hits: 1 });
        assert!(matches!(read(b"[[1,2]]"), Outcome::Failed(_)));
    }

    #[test]
    fn refusals_are_named_by_status_and_code() {
        let status = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(name_refusal(status, br#"{"error": "full", "code": "overloaded"}"#), "429 overloaded");
        assert_eq!(name_refusal(status, b""), "429 Too Many Requests");
    }
}

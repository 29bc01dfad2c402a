//! One client that asks for one thing again and again, over one connection.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{client::Client, keys::Key};

/// How it asks, and what has to come.
#[derive(Debug)]
pub(crate) enum Asker {
    /// `POST /embed`.
    Http {
        /// The connection.
        http: Http,
        /// The request.
        body: Bytes,
        /// The answer to the last byte.
        expected: Bytes,
    },
    /// A cache, directly.
    Cache {
        /// The connection.
        client: Client,
        /// Whose vector it asks for.
        key: Key,
    },
}

impl Asker {
    /// Asks once; says whether the right answer came.
    ///
    /// # Errors
    /// Where none came.
    pub(crate) async fn ask(&mut self) -> Result<bool> {
        match self {
            Self::Http { http, body, expected } => {
                let (_, answer) = http.post(body.clone()).await?;
                Ok(answer == *expected)
            }
            Self::Cache { client, key } => {
                let found = client.get_many(&[*key]).await?;
                Ok(found.iter().flatten().any(|vector| key.owns(vector)))
            }
        }
    }
}

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Http {
    connection: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; whoever sends on it sees the error.
        tokio::spawn(driver);
        Ok(Self { connection, address })
    }

    /// `POST /embed` with `body`.
    ///
    /// # Errors
    /// Where the answer is none of 200.
    pub(crate) async fn post(&mut self, body: Bytes) -> Result<(HeaderMap, Bytes)> {
        let (status, headers, answer) = self.send(Method::POST, "/embed", body).await?;
        ensure!(status == StatusCode::OK, "POST /embed: {status}: {}", String::from_utf8_lossy(&answer));
        Ok((headers, answer))
    }

    /// Whether `/health` says that it is ready.
    ///
    /// # Errors
    /// Where nobody answers.
    pub(crate) async fn is_ready(&mut self) -> Result<bool> {
        Ok(self.send(Method::GET, "/health", Bytes::new()).await?.0 == StatusCode::OK)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.connection.ready().await?;
        let (head, body) = self.connection.send_request(request).await?.into_parts();
        let body = body.collect().await.context("read an answer")?;
        Ok((head.status, head.headers, body.to_bytes()))
    }
}

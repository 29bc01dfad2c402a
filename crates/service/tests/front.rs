//! The front of a service as real clients meet it: each trap of an HTTP and gRPC port behind a balancer, closed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::post};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use protocol::inference::{
    EmbedRequest, EmbedResponse, InfoRequest, InfoResponse,
    inference_client::InferenceClient,
    inference_server::{Inference, InferenceServer},
};
use service::{
    admission::Admission,
    gate::through,
    leftover::ReadLeftovers,
    lifecycle::{Lifecycle, State},
    observe::Observer,
    probes::{self, Probes},
    refusal,
    server::{Drained, ServerLimits, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

const PERMITS: usize = 2;
const MESSAGE_BYTES_MAX: usize = 4096;

/// Does what the model's name says: `hold` never answers, `refuse` is overloaded inside gRPC.
struct Moody {
    events: mpsc::UnboundedSender<Event>,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Entered,
    Dropped,
}

struct TellsWhenDropped(mpsc::UnboundedSender<Event>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        self.0.send(Event::Dropped).ok();
    }
}

#[tonic::async_trait]
impl Inference for Moody {
    async fn embed(
        &self,
        request: tonic::Request<EmbedRequest>,
    ) -> Result<tonic::Response<EmbedResponse>, tonic::Status> {
        let _guard = TellsWhenDropped(self.events.clone());
        self.events.send(Event::Entered).ok();
        match request.get_ref().model.as_str() {
            "hold" => std::future::pending().await,
            "refuse" => Err(tonic::Status::resource_exhausted("the queue is full")),
            _ => Ok(tonic::Response::new(EmbedResponse::default())),
        }
    }

    async fn info(
        &self,
        _: tonic::Request<InfoRequest>,
    ) -> Result<tonic::Response<InfoResponse>, tonic::Status> {
        Ok(tonic::Response::new(InfoResponse::default()))
    }
}

struct Front {
    address: SocketAddr,
    lifecycle: Lifecycle,
    shutdown: CancellationToken,
    events: mpsc::UnboundedReceiver<Event>,
    served: JoinHandle<Drained>,
}

async fn start(limits: ServerLimits) -> Front {
    let (sender, events) = mpsc::unbounded_channel();
    let lifecycle = Lifecycle::default();
    lifecycle.set(State::Ready);
    let mut registry = Registry::default();
    let observer = Observer::new(&mut registry);
    let probes = Probes {
        service: "moody",
        version: "0",
        instance: "moody-1".to_owned(),
        lifecycle: lifecycle.clone(),
        registry: registry.into(),
    };
    let admission = Admission::new(lifecycle.clone(), PERMITS, Duration::from_secs(30));
    let inference =
        InferenceServer::new(Moody { events: sender }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let app = Router::new()
        .route("/work", post(async || "done"))
        .route_service("/sutra.inference.v1.Inference/{*method}", inference)
        .route_layer(through(admission))
        .merge(probes::routes(probes))
        .fallback(refusal::not_found)
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer((through(observer), through(ReadLeftovers)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (stop, state) = (shutdown.clone(), lifecycle.clone());
    let served = tokio::spawn(async move { serve(listener, app, &limits, &state, stop).await });
    Front { address, lifecycle, shutdown, events, served }
}

impl Front {
    async fn grpc(&self) -> InferenceClient<Channel> {
        InferenceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// Starts a call that is never answered, and waits until it is inside.
    async fn hold(&mut self) -> JoinHandle<tonic::Status> {
        let mut client = self.grpc().await;
        let call = tokio::spawn(async move { client.embed(request("hold")).await.unwrap_err() });
        assert_eq!(self.events.recv().await, Some(Event::Entered));
        call
    }

    async fn http(&self, method: &str, path: &str) -> Response<hyper::body::Incoming> {
        let request = Request::builder().method(method).uri(path).body(Full::default()).unwrap();
        self.connect().await.send_request(request).await.unwrap()
    }

    async fn connect(&self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A raw gRPC call, so that the HTTP status can be seen.
    async fn raw_grpc(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response<hyper::body::Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let uri = format!("http://{}{path}", self.address);
        let builder = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        sender.send_request(builder.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }
}

fn request(model: &str) -> EmbedRequest {
    EmbedRequest { model: model.to_owned(), ..EmbedRequest::default() }
}

const EMBED: &str = "/sutra.inference.v1.Inference/Embed";
/// An empty message in its frame: not compressed, length 0.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

#[tokio::test]
async fn loading_is_a_503_that_grpc_clients_read_as_unavailable() {
    let front = start(ServerLimits::default()).await;
    front.lifecycle.set(State::Loading);
    let status = front.grpc().await.embed(request("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("loading"), "{status}");
    let raw = front.raw_grpc(EMBED, &[], EMPTY_MESSAGE.to_vec()).await;
    assert_eq!(
        (raw.status(), raw.headers()["grpc-status"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "14")
    );
    assert_eq!(raw.headers()["retry-after"], "1");
    assert!(raw.into_body().collect().await.unwrap().to_bytes().is_empty());
    let http = front.http("POST", "/work").await;
    assert_eq!(
        (http.status(), http.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "1")
    );
}

#[tokio::test]
async fn over_the_permits_is_a_429_while_probes_still_answer() {
    let mut front = start(ServerLimits::default()).await;
    let (_first, _second) = (front.hold().await, front.hold().await);
    assert_eq!(front.http("POST", "/work").await.status(), StatusCode::TOO_MANY_REQUESTS);
    let raw = front.raw_grpc(EMBED, &[], EMPTY_MESSAGE.to_vec()).await;
    assert_eq!(
        (raw.status(), raw.headers()["grpc-status"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "8")
    );
    for path in ["/health", "/livez", "/metrics"] {
        assert_eq!(front.http("GET", path).await.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn overload_found_inside_grpc_is_a_429_too() {
    let front = start(ServerLimits::default()).await;
    let status = front.grpc().await.embed(request("refuse")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "the queue is full"));
    // The message of `EmbedRequest { model: "refuse" }`: field 1, length 6.
    let body = [&[0, 0, 0, 0, 8, 0x0a, 6][..], b"refuse"].concat();
    assert_eq!(front.raw_grpc(EMBED, &[], body).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn unknown_paths_are_404_and_not_an_empty_200() {
    let front = start(ServerLimits::default()).await;
    let http = front.http("GET", "/nowhere").await;
    assert_eq!(
        (http.status(), http.headers()["content-type"].to_str().unwrap()),
        (StatusCode::NOT_FOUND, "application/json")
    );
    let raw = front.raw_grpc("/sutra.cache.v1.Cache/GetMany", &[], EMPTY_MESSAGE.to_vec()).await;
    assert_eq!((raw.status(), raw.headers()["grpc-status"].to_str().unwrap()), (StatusCode::NOT_FOUND, "12"));
}

#[tokio::test]
async fn wrong_method_is_a_405_that_names_it() {
    let front = start(ServerLimits::default()).await;
    let response = front.http("DELETE", "/work").await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("does not take DELETE"), "{body:?}");
}

#[tokio::test]
async fn a_deadline_is_kept_and_called_by_its_name() {
    let front = start(ServerLimits::default()).await;
    // Raw, because a tonic client would time out by itself first and call it CANCELLED.
    let raw = front
        .raw_grpc(EMBED, &[("grpc-timeout", "20m")], [&[0, 0, 0, 0, 6, 0x0a, 4][..], b"hold"].concat())
        .await;
    assert_eq!(
        (raw.status(), raw.headers()["grpc-status"].to_str().unwrap()),
        (StatusCode::GATEWAY_TIMEOUT, "4")
    );
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_work() {
    let mut front = start(ServerLimits::default()).await;
    front.hold().await.abort();
    assert_eq!(front.events.recv().await, Some(Event::Dropped));
}

#[tokio::test]
async fn compressed_and_oversized_messages_are_refused_and_the_connection_stays_usable() {
    let front = start(ServerLimits::default()).await;
    let mut client = front.grpc().await;
    let status = client.embed(request(&"x".repeat(2 * MESSAGE_BYTES_MAX))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(client.embed(request("")).await.is_ok());
    let raw = front.raw_grpc(EMBED, &[("grpc-encoding", "gzip")], vec![1, 0, 0, 0, 1, 0]).await;
    assert_eq!(raw.headers()["grpc-status"], "12");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_drain() {
    let front = start(ServerLimits::default()).await;
    let mut idle_grpc = front.grpc().await;
    idle_grpc.info(InfoRequest {}).await.unwrap();
    let _idle_http = front.connect().await;
    front.shutdown.cancel();
    assert_eq!(front.served.await.unwrap(), Drained::Whole);
    assert_eq!(front.lifecycle.state(), State::Draining);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_drain_is_over() {
    let limits = ServerLimits { drain_max: Duration::from_millis(20), ..ServerLimits::default() };
    let mut front = start(limits).await;
    let held = front.hold().await;
    front.shutdown.cancel();
    assert_eq!(front.served.await.unwrap(), Drained::Cut);
    assert_ne!(held.await.unwrap().code(), Code::Ok);
}

#[tokio::test]
async fn health_says_draining_with_503_during_the_drain_delay() {
    let limits = ServerLimits { drain_delay: Duration::from_secs(3600), ..ServerLimits::default() };
    let front = start(limits).await;
    front.shutdown.cancel();
    front.lifecycle.wait_for(State::Draining).await;
    let response = front.http("GET", "/health").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("draining"), "{body:?}");
    assert_eq!(front.http("POST", "/work").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn headers_that_never_come_end_the_connection() {
    let limits = ServerLimits { header_timeout: Duration::from_millis(20), ..ServerLimits::default() };
    let front = start(limits).await;
    for said in ["", "POST /work HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(front.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
    }
}

#[tokio::test]
async fn request_id_is_kept_or_given() {
    let front = start(ServerLimits::default()).await;
    let given = front.http("GET", "/livez").await;
    assert_eq!(given.headers()["x-request-id"].len(), 16);
    let request = Request::get("/livez").header("x-request-id", "mine").body(Full::default()).unwrap();
    let kept = front.connect().await.send_request(request).await.unwrap();
    assert_eq!(kept.headers()["x-request-id"], "mine");
}

#[tokio::test]
async fn a_refusal_is_seen_by_a_client_that_is_still_sending_and_its_connection_stays_usable() {
    let front = start(ServerLimits::default()).await;
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let body = vec![b'x'; 4 << 20];
    for (method, headers, status) in
        [("PUT", "", "405"), ("POST", "x-request-timeout-ms: soon\r\n", "400"), ("POST", "", "503")]
    {
        if status == "503" {
            front.lifecycle.set(State::Broken);
        }
        let head =
            format!("{method} /work HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        read_rest(&mut stream).await;
    }
}

/// Reads an answer to its end, by its content-length.
async fn read_rest(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(seen).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
}

//! The skeleton every service stands on.
//!
//! ```text
//!  signal ──▶ lifecycle ──────────────────────┬────▶ /health
//!                                             ▼
//!  socket ──▶ server ──▶ observe ──▶ auth ──▶ admission ──▶ body ──▶ the service's own handlers
//!             nodelay    metrics,    key      429 and 503,  bounded
//!             drain      request id,          deadline
//!                        leftovers
//! ```
//!
//! Goals: a refusal is an HTTP status in front of gRPC too, every wait has a bound, a stopping process drains in bounded
//! time, and each service says these things the same way.
//!
//! Non-goals: no knowledge of texts, models or caches; no TLS yet.

pub mod config;
pub mod edition;
pub mod program;
pub mod shutdown;
pub mod telemetry;

pub mod lifecycle;
pub mod server;
pub mod cork;

pub mod channel;

pub mod gate;
pub mod observe;
pub mod leftover;

pub mod auth;

pub mod admission;
pub mod deadline;
pub mod refusal;

pub mod body;
pub mod grpc_probes;
pub mod probes;

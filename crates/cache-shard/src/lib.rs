//! cache-shard: the storage node. Vectors by the digest of what they were computed from, on disk, with a time to live.
//!
//! ```text
//!  gRPC sutra.cache.v1 ─▶ admission ─▶ grpc ─▶ (a thread that may block) ─▶ store: segments, index
//!  GET /health /info /metrics ─▶ http ─────────────────────────────────────▶ its counts
//! ```
//!
//! Goals: it answers what was put, or nothing, whatever happens to its disk; what it accepted survives the death of the
//! process; a disk that is full, read-only or broken costs new records, not old ones; every bound has a flag.
//!
//! Non-goals: it computes nothing and knows no text; no replication, no routing between shards (a caller's matter).

// The simulated disk of the tests calls this crate by its name, from inside too.
#[cfg(any(test, fuzzing))]
extern crate self as cache_shard;

pub mod args;
pub mod config;

pub mod http;

pub mod grpc;

pub mod slot;

pub mod store;

pub mod metrics;

mod serve;

pub use config::Config;
pub use serve::run;

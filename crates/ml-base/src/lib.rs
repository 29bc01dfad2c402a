//! ml-base: the inference server. Text in, pooled vectors out, one model or several, gRPC and HTTP on one port.
//!
//! ```text
//!  gRPC Embed ─┐                                                               ┌─▶ engine (all worker threads)
//!              ├─▶ serving ─▶ pipeline ─▶ intake ──▶ queue ─────▶ worker ──────┤
//!  POST /embed ┘   which      one call    tokenize,  bounded,     one thread   └─▶ vectors back to each item
//!                  model,                 truncate   by deadline  a model, one
//!                  loaded?                                        batch at a time
//! ```
//!
//! Goals: answers from the first second (`loading` with 503 until it can serve); batches are formed here, by tokens, where
//! the device is; work whose caller has gone never reaches the device; a worker that panics is replaced and no caller
//! hangs.
//!
//! Non-goals: no cache of results (see `embedding-single`), no padding, no balancing.

pub mod args;
pub mod config;

pub mod model;

pub mod http;

pub mod grpc;

pub mod serving;

pub mod item;

pub mod pipeline;

pub mod intake;

pub mod queue;

pub mod worker;

pub mod turn;

pub mod metrics;

mod load;

mod serve;

pub use config::Config;
pub use serve::run;

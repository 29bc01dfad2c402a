//! Token ids to pooled vectors: one ragged encoder for BERT and its relatives, on own kernels.
//!
//! **Goals**
//! - Texts of any lengths run in one batch with no padding: tokens are packed, lengths are kept beside them.
//! - The vector of a text does not depend on the texts it shares a batch with.
//! - A model that cannot be computed exactly is refused at load, by the name of what is wrong.
//!
//! **Non-goals**: text and tokenizing, queues, networks, caches, async. A caller hands in token ids and blocks.
//! Vectors are not brought to unit norm here: that is the `vector` crate's work.
//!
//! ```text
//!  TokenIds × texts
//!     │ RaggedBatch::new             packed ids + cumulative lengths
//!     ▼
//!  RaggedBatch ── split by tokens ─▶ part ─▶ embeddings ─▶ layer × n ─▶ pooling ─┐   on thread 1
//!     │                          ├─▶ part ─▶ embeddings ─▶ layer × n ─▶ pooling ─┤   on thread 2 …
//!     │                          └─▶ long or lone text ─▶ … ─▶ pooling ──────────┤   all threads share each kernel
//!     ▼                                                                          ▼
//!  Engine::embed                                             PooledVectors (texts, width)
//!
//!  one layer:   hidden ─▶ qkv ─▶ attention per text ─▶ linear + residual + norm ─▶ linear + gelu ─▶ linear + residual + norm
//! ```
//!
//! Shapes in comments are row-major; `tokens` is the number of packed tokens of a part, `hidden` the width of the model.

// The way of a batch.
mod batch;
mod engine;
mod division;
mod cores;
mod threads;

mod compute;
mod encoder;
mod pooling;

// What an engine is loaded from.
mod config;
mod weights;

// Models that something else computes.
mod onnx;

mod error;

pub use batch::{RaggedBatch, TokenIds};
pub use compute::{Compute, Isa, Plan};
pub use config::supported_architectures;
pub use engine::{Engine, EngineConfig};
pub use error::{BatchError, EmbedError, LoadError};
pub use onnx::{COMPUTES_ONNX, onnx_files};
pub use pooling::{PooledVectors, Pooling, UnknownPooling};
pub use threads::Threads;

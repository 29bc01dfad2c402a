//! What travels between the parts, and nothing else.
//!
//! ```text
//!  client ── JSON of POST /embed ─▶ embedding-single ── sutra.inference.v1 ─▶ ml-base
//!              embed_json, prompts                        inference
//!            whoever keeps vectors ── sutra.cache.v1 ─▶ cache-shard
//!                                       cache
//!                        every error, on every hop: error::ErrorCode
//! ```
//!
//! Goals: one definition for each message, one closed list of error codes with exactly two maps (HTTP, gRPC), parsing
//! that names the field that is wrong.
//!
//! Non-goals: no I/O, no limits of its own (callers pass theirs), no conversion of vectors (see `vector`).

pub mod checksum;
pub mod embed_json;
pub mod error;
pub mod prompts;

/// Messages and services of `proto/sutra/inference/v1`.
#[expect(missing_docs, clippy::too_many_lines, reason = "generated; the documentation is in the .proto")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod inference {
    tonic::include_proto!("sutra.inference.v1");
}

impl inference::PrecisionClass {
    /// The name that clients read, as in `x-precision`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        }
    }
}

/// Messages and services of `proto/sutra/cache/v1`.
#[expect(missing_docs, clippy::too_many_lines, reason = "generated; the documentation is in the .proto")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod cache {
    tonic::include_proto!("sutra.cache.v1");
}

/// Encoded descriptors of all files in `proto/`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

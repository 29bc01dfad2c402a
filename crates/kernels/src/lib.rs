//! The arithmetic of an encoder: products with packed weights, attention over ragged texts, layer norm.
//!
//! **Goals**
//! - The fastest instructions that the CPU has are chosen at run time: bf16 in AMX tiles or in AVX-512, or int16 with exact sums
//!   where AVX-512 multiplies that faster or alone, or there is nothing but AVX2, f32 in AVX-512 or in AVX2, or portable code.
//! - Weights may be int8: the rows they are multiplied with become int8 on the way, in any tier, and sums are exact.
//! - Weights are packed once; what follows a product (bias, GELU, residual) is done while the sums are in the L1 cache.
//! - No allocation, no lock and no thread in a kernel: a caller brings [`Activations`] and [`Scratch`] of its own, or the
//!   threads of a [`Crew`], which share the kernel and change nothing of its result.
//! - A [`Tier`] can only be had for a CPU that has it, so that everything else here is safe to call.
//!
//! **Non-goals**: models, files, tokens, threads, and which tier a user asked for. Shapes that do not fit are a
//! mistake of the caller and panic.
//!
//! ```text
//!                   PackedLinear::new, new_int8 ◀─ weights (out, in), bias (out)
//!                                 │
//!  Activations (rows, in) ──▶ PackedLinear::apply ──▶ Output: f32 rows, residual += , Activations, GELU ─▶ Activations
//!     ▲        │                                                            │
//!     │        └─▶ attention (qkv of packed texts, lengths) ─▶ Activations  │
//!     └───────────────────── LayerNorm::apply ◀─────────────────────────────┘
//! ```
//!
//! Between kernels the tier decides how values lie: bf16 in blocks of 32 columns, or f32 rows. Norms and the residual stream
//! are f32 in every tier, and so are sums and softmax but for whole numbers, whose sums are exact.
#![expect(unsafe_code, reason = "vector intrinsics, tile instructions and what they read through pointers")]

// What a CPU has, and where values lie.
mod tier;
mod pages;
mod aligned;
mod shared;
mod activations;
mod quantise;
mod packed;

// The way of a layer.
mod linear;
mod output;
mod attention;
mod norm;

// Functions of one value or one vector.
mod multiply_add;
mod lanes;
mod convert;
mod exp;
mod gelu;
mod silu;

mod scratch;
mod crew;
mod peak;
#[cfg(feature = "software-tiles")]
pub mod software_tiles;
#[cfg(test)]
mod testing;

pub use activations::Activations;
pub use attention::{Heads, RelativeBias, attention};
pub use crew::{Crew, Helper, Team};
pub use norm::LayerNorm;
pub use output::{Gate, Output, Rotation};
pub use packed::PackedLinear;
pub use peak::{peak, peak_int8};
pub use scratch::Scratch;
pub use tier::{Tier, TierError};

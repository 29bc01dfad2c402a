//! What happens to a pooled vector before it is sent: the one path that hit and miss share.
//!
//! ```text
//!  pooled, full width ──▶ layer-norm ──▶ cut to dimensions ──▶ unit norm ──▶ bytes
//!     (width)              only before a cut, where the model was trained so
//! ```
//!
//! Goals: a vector from a cache and one just computed go through the same code and come out bit-equal.
//!
//! Non-goals: no JSON, no pooling (see `engine`), no storage.

pub mod codec;
pub mod finish;

pub use finish::{Finish, FinishError, ModelWidths, Normalization, Widths};

//! A whole grid for tests, and what they ask it with.
//!
//! ```text
//!  a test ──▶ Client ──▶ Door of embedding-single ─┬▶ Door of ml-base ──▶ the real model
//!                                                  └▶ Door of cache-shard ──▶ a directory of its own
//!                        └──── Grid: all in this process, for what is answered ─────┘
//!                        └──── Program: each a process of its own, for faults ──────┘
//!  Load ─── many Clients ──▶ …                  Balancer: HAProxy between the two, with the file of production
//! ```
//!
//! Goals: tests read as sentences; everything listens on a port of its own, so they run side by side; nothing waits for a
//! time to pass, and whatever does not come fails its test by name; what was started ends with its test.
//!
//! Non-goals: no false services (each crate's own tests have them), no load figures (see `loadtest`).

#![expect(clippy::unwrap_used, reason = "what fails in the tools of a test fails the test")]

mod skip;

mod model_dir;

mod tiny_model;

mod goldens;

mod grid;

mod program;

mod balancer;

mod client;

mod faulty_line;

mod load;

mod until;

pub use balancer::{Balancer, Slot};
pub use client::{Answer, Client, Door};
pub use faulty_line::{Fault, FaultyLine};
pub use goldens::{Golden, goldens, largest_delta};
pub use grid::{Grid, GridBuilder};
pub use load::{Figures, Load, LoadPlan, Record};
pub use model_dir::model_dir;
pub use program::{Memory, Program, binary};
pub use tiny_model::TinyModel;
pub use until::{PATIENCE, until, within_patience};

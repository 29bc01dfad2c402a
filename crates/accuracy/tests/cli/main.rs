//! The binary against fake servers, seen from outside: what it asks, its report, its exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod server;
mod run;

mod compared;
mod failures;

//! The binary against a fake server, seen from outside: files, terminal, exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod run;
mod server;

mod failures;
mod input;
mod interrupted;
mod order;
mod retries;

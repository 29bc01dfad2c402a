//! A whole proxy on a real socket, in front of a false ml-base that counts, holds, fails and lies.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail their test")]

mod client;
mod fake;
mod grid;

mod cache;
mod faults;
mod gates;
mod input;

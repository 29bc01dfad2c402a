//! A whole proxy on a real socket, in front of a false ml-base and a false shard that count, hold, fail and lie.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail their test")]

mod asking;
mod client;
mod fake;
mod fake_shard;
mod served;
mod grid;

mod cache;
mod faults;
mod gates;
mod input;
mod joins;
mod model_change;
mod peers_bugs;
mod prompts;
mod shard;
mod shards;

//! The whole path with the real model: what it answers, what it refuses, and what it does when a part of it fails.

#![expect(clippy::unwrap_used, reason = "what fails in a test's own functions fails the test")]

mod texts;

mod vectors;

mod cache;

mod cache_admin;

mod shared;

mod precision;

mod classes;

mod several;

mod unusual;

mod bad_input;

mod grpc;

mod abandoned;

mod loading;

mod model_directory;

mod programs;

mod killed;

mod shard;

mod shards;

mod line;

mod garbled;

mod balancer;

mod replicas;

mod paused;

mod drained;

mod memory;

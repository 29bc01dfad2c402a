//! What a cache shard answers, read by the proxy, with right checksums; what is asserted is in `any_bytes.rs`, whose unit tests share it.
//!
//! `cargo +nightly fuzz run answer --fuzz-dir crates/embedding-single/fuzz`, from the root of the workspace.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedding_single::any_bytes::answer(bytes));

//! The files of generations and memos, with right checksums; what is asserted is in `store/any_bytes.rs`, whose unit tests share it.
//!
//! `cargo +nightly fuzz run sealed_files --fuzz-dir crates/cache-shard/fuzz`, from the root of the workspace.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cache_shard::store::any_bytes::sealed_files(bytes));

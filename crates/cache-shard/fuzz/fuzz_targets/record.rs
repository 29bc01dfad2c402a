//! The fields of a record, without its checksum; what is asserted is in `store/any_bytes.rs`, whose unit tests share it.
//!
//! `cargo +nightly fuzz run record --fuzz-dir crates/cache-shard/fuzz`, from the root of the workspace.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cache_shard::store::any_bytes::record(bytes));

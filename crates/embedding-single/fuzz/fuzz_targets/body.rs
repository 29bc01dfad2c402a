//! The body of `POST /embed`; what is asserted is in `any_bytes.rs`, whose unit tests share it.
//!
//! `cargo +nightly fuzz run body --fuzz-dir crates/embedding-single/fuzz`, from the root of the workspace.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedding_single::any_bytes::body(bytes));

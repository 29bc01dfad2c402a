//! What a loaded model keeps in memory: resident bytes before, after the load, and after a pass of one text.
//!
//! `cargo run -p engine --example resident -- MODEL_DIR [bfloat16|float32|portable] [tokens]`
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use engine::{Compute, Engine, EngineConfig, Pooling, RaggedBatch, TokenIds};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("MODEL_DIR is wanted")?);
    let name = arguments.next().unwrap_or_else(|| "bfloat16".to_owned());
    let compute =
        Compute::ALL.into_iter().find(|compute| compute.name() == name).ok_or("unknown way to compute")?;
    let tokens: usize = arguments.next().map_or(Ok(512), |tokens| tokens.parse())?;
    let before = resident_bytes()?;
    let config =
        EngineConfig { pooling: Pooling::Mean, tokens_max: usize::MAX, compute, threads: NonZeroUsize::MIN };
    let engine = Engine::load(&dir, &config)?;
    let loaded = resident_bytes()?;
    engine.embed(&RaggedBatch::new([&TokenIds::new(vec![5; tokens])?])?)?;
    let used = resident_bytes()?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("before {:.1} MB", megabytes(before));
    println!(
        "loaded as {} on {}: +{:.1} MB",
        compute.name(),
        engine.computes_with(),
        megabytes(loaded - before)
    );
    println!("after a text of {tokens} tokens: +{:.1} MB more", megabytes(used.saturating_sub(loaded)));
    Ok(())
}

/// What the system says of this process.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

//! What an engine keeps in memory, seen from outside: a process of its own that loads nothing else.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use engine::{Compute, Engine, RaggedBatch};
use serde::{Deserialize, Serialize};

use crate::work;

/// Bytes of an engine after its first batch, beside those of its weights.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// By how much loading and one batch made the process grow.
    pub(crate) resident_bytes: u64,
    /// Matrices of the layers in the type they are multiplied in, all else in float32.
    pub(crate) weights_bytes: u64,
}

/// Starts this program again with the same arguments to load the engine of one way to compute alone.
///
/// # Errors
/// Where that process fails.
pub(crate) fn of_a_process(way: &str) -> Result<Memory> {
    let mut process = Command::new(env::current_exe().context("path of this program")?);
    process.args(env::args_os().skip(1)).args(["--only-memory-of", way]);
    let output = process.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the process that measures memory failed ({})", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Loads an engine, has it compute `batch` and looks how much that took.
///
/// # Errors
/// Where the engine fails, or the system does not tell.
pub(crate) fn of_this_process(
    model_dir: &Path,
    load: impl FnOnce() -> Result<Engine>,
    batch: &RaggedBatch,
) -> Result<Memory> {
    let before = resident_bytes()?;
    let engine = load()?;
    engine.embed(batch)?;
    let resident_bytes = resident_bytes()?.saturating_sub(before);
    let weights_bytes = work::weights_bytes(model_dir, weight_bytes(engine.compute()))?;
    Ok(Memory { resident_bytes, weights_bytes })
}

/// Bytes of one packed weight.
fn weight_bytes(compute: Compute) -> u64 {
    match compute {
        Compute::Float32 => 4,
        Compute::Bfloat16 => 2,
        Compute::Int8 => 1,
    }
}

fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("this system does not tell memory")?;
    parse_resident(&status).context("/proc/self/status without VmRSS")
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_told_in_kib() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t  1234 kB\nThreads: 3\n"), Some(1234 * 1024));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }
}

//! How much memory a model takes, and how much there is.
//!
//! A reckoning, not a measurement: it decides before anything is read. The tables of embeddings and the vectors stay in
//! float32, the matrices take what they are computed in; the tokenizer's maps take several times its file; every thread
//! of the engine has buffers for its longest pass.

use std::{fs, num::NonZeroUsize, path::Path};

use engine::Compute;

use crate::model::ModelFiles;

const FLOAT32_BYTES: u64 = 4;
/// Maps both ways, each word a string of its own.
const TOKENIZER_FACTOR: u64 = 10;
/// An engine's pass is at least so long.
const PASS_TOKENS: u64 = 512;
/// Numbers kept for each token of a pass, in widths of the model: the residual stream, queries, keys, values, context,
/// and the raised state of four times the width, some of it twice.
const PASS_WIDTHS: u64 = 16;

/// What decides the memory of a model besides its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// What it is computed with.
    pub(crate) compute: Compute,
    /// Threads of the engine.
    pub(crate) threads: NonZeroUsize,
    /// Tokens of its longest text.
    pub(crate) tokens_max: usize,
}

impl Load {
    /// Bytes that the model takes once it is loaded.
    pub(crate) fn need_bytes(&self, files: &ModelFiles) -> u64 {
        let matrix_bytes = match self.compute {
            Compute::Float32 => FLOAT32_BYTES,
            Compute::Bfloat16 => 2,
            Compute::Int8 => 1,
        };
        let weights = files.values.tables * FLOAT32_BYTES + files.values.matrices * matrix_bytes;
        let tokenizer = files.tokenizer_bytes * TOKENIZER_FACTOR;
        let pass_tokens = PASS_TOKENS.max(self.tokens_max as u64);
        let pass = pass_tokens * u64::from(files.width) * PASS_WIDTHS * FLOAT32_BYTES;
        weights + tokenizer + pass * self.threads.get() as u64
    }
}

/// Memory that this process could still take: what the system calls available, and what its control group leaves.
/// `None` where neither can be read.
pub(crate) fn available_bytes() -> Option<u64> {
    let system = read("/proc/meminfo").as_deref().and_then(available_in);
    [system, left_in_group()].into_iter().flatten().min()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// In a container the group's files lie where the root of the tree would be.
fn left_in_group() -> Option<u64> {
    let number = |file: &str| read(Path::new("/sys/fs/cgroup").join(file))?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_the_systems_own_figure() {
        let meminfo = "MemTotal:       24683020 kB\nMemFree: 1 kB\nMemAvailable:   22436808 kB\n";
        assert_eq!(available_in(meminfo), Some(22_436_808 * 1024));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
        assert_eq!(available_in("MemAvailable: much\n"), None);
    }
}

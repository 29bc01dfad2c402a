//! The texts of a file that can be sent: whole, valid, each once.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, ensure};

/// Reads every line of `path` that holds a text; a load test keeps its texts in memory.
///
/// # Errors
/// Where the file cannot be read or holds no text.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let texts = distinct_lines(&bytes);
    ensure!(!texts.is_empty(), "{} holds no text", path.display());
    Ok(texts)
}

fn distinct_lines(bytes: &[u8]) -> Vec<String> {
    let mut seen = HashSet::new();
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter_map(|line| str::from_utf8(line).ok())
        .filter(|line| !line.trim().is_empty() && seen.insert(*line))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_invalid_and_repeated_lines_are_left_out() {
        assert_eq!(distinct_lines(b"b\r\n\n \na\n\xff\nb\na"), ["b", "a"]);
    }
}

//! The file to which tests say that they skipped themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Names the file to tests.
pub(super) const VARIABLE: &str = "SUTRA_SKIP_LOG";

/// An empty file at first; a line `test: reason` for each test that skipped itself.
#[derive(Debug)]
pub(super) struct SkipLog {
    path: PathBuf,
}

impl SkipLog {
    /// A fresh file under `.sutra/logs`.
    pub(super) fn create(workspace: &Workspace) -> Result<Self> {
        let path = workspace.logs().join("skipped-tests.txt");
        fs::create_dir_all(workspace.logs())
            .and_then(|()| fs::write(&path, ""))
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where tests append.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Every line once, sorted: a test that was tried twice is one test.
    pub(super) fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        let lines: BTreeSet<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Ok(lines.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_earlier_run_are_gone_and_repeated_ones_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let log = SkipLog::create(&workspace).unwrap();
        fs::write(log.path(), "b: no model\na: no model\n\nb: no model\n").unwrap();
        assert_eq!(log.lines().unwrap(), ["a: no model", "b: no model"]);
        assert!(SkipLog::create(&workspace).unwrap().lines().unwrap().is_empty());
    }
}

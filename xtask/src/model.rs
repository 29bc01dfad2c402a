//! Gets a model by `ml-base fetch`, which knows the sources and checks every file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Fetches the model `name` into `.sutra/models` and returns its directory. The binaries must have been built.
///
/// # Errors
/// Where `ml-base fetch` fails; it has then said why on standard error.
pub(crate) fn fetch(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let ml_base = workspace.binary("ml-base")?;
    let output = Command::new(&ml_base)
        .args(["fetch", "--model-id", &absolute_directory(name)])
        .env("ML_BASE_MODEL_STORE", workspace.models())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", ml_base.display()))?;
    if !output.status.success() {
        bail!("model `{name}` could not be fetched ({})", output.status);
    }
    let printed = String::from_utf8(output.stdout).context("read the directory that ml-base fetch prints")?;
    match printed.lines().last().map(str::trim) {
        Some(directory) if Path::new(directory).is_dir() => Ok(PathBuf::from(directory)),
        other => bail!("ml-base fetch printed `{}`, wanted a directory", other.unwrap_or_default()),
    }
}

/// `name` itself, or its full path where it is a directory: services do not run in the caller's directory.
pub(crate) fn absolute_directory(name: &str) -> String {
    let path = Path::new(name);
    match path.canonicalize() {
        Ok(full) if full.is_dir() => full.to_str().unwrap_or(name).to_owned(),
        Ok(_) | Err(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_becomes_absolute_and_a_name_stays() {
        assert_eq!(absolute_directory("medium"), "medium");
        assert_eq!(
            absolute_directory("sentence-transformers/all-MiniLM-L6-v2"),
            "sentence-transformers/all-MiniLM-L6-v2"
        );
        assert!(Path::new(&absolute_directory("src")).is_absolute());
    }
}

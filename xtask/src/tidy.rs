//! `tidy`: the rules that the compiler does not know.
//!
//! Each check is a pure function from a text to what it breaks, so each is tested on a few lines. The tables of what is
//! allowed stand at the top of their files.

mod arrows;
mod manifests;
mod names;
mod sources;

use std::fmt;
use std::fs;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::console;
use crate::workspace::Workspace;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    /// Path from the root.
    file: String,
    found: String,
    limit: String,
}

impl Violation {
    fn new(file: &str, found: impl Into<String>, limit: impl Into<String>) -> Self {
        Self { file: file.to_owned(), found: found.into(), limit: limit.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; limit: {}", self.file, self.found, self.limit)
    }
}

/// Checks, and says that all is well.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    check(workspace)?;
    console::say("tidy: nothing to complain about");
    Ok(ExitCode::SUCCESS)
}

/// Checks every rule and prints what breaks one.
///
/// # Errors
/// Where something does.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut violations = Vec::new();
    for file in files(workspace)? {
        violations.extend(names::check(&file));
        violations.extend(check_contents(workspace, &file)?);
    }
    violations.extend(arrows::check(&workspace.metadata()?)?);
    violations.iter().for_each(|violation| console::warn(format!("tidy: {violation}")));
    match violations.len() {
        0 => Ok(()),
        count => bail!("tidy found {count} broken rules"),
    }
}

fn check_contents(workspace: &Workspace, file: &str) -> Result<Vec<Violation>> {
    let check = match file {
        file if file.ends_with(".rs") => sources::check,
        file if file.ends_with("Cargo.toml") => manifests::check_manifest,
        ".clippy.toml" => manifests::check_clippy,
        _ => return Ok(Vec::new()),
    };
    let path = workspace.root().join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(check(file, &text))
}

/// Every file that is in git or could be added to it, as a path from the root.
fn files(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    let mut safe = std::ffi::OsString::from("safe.directory=");
    safe.push(root);
    let output = std::process::Command::new("git")
        .current_dir(root)
        .arg("-c")
        // A clone may belong to another user than the one who checks it.
        .arg(safe)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start git")?;
    if !output.status.success() {
        bail!("git ls-files failed ({})", output.status);
    }
    let names = String::from_utf8(output.stdout).context("read the names of files")?;
    // A file that was deleted and not committed yet is still listed.
    Ok(names.split_terminator('\0').filter(|name| root.join(name).exists()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_file_found_and_limit() {
        let violation = Violation::new("crates/a/src/b.rs", "501 lines", "500 lines");
        assert_eq!(violation.to_string(), "crates/a/src/b.rs: 501 lines; limit: 500 lines");
    }
}

//! `--detach`: the same supervisor in a process of its own, which tells by one line that all is ready.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use super::Refused;
use crate::cli::GridArgs;
use crate::supervisor::log;
use crate::workspace::Workspace;

/// What the supervisor prints once every service is ready.
pub(super) const READY: &str = "ready";

/// Lines of the supervisor's log that are shown where it gives up.
const LOG_LINES_SHOWN: usize = 40;

/// Starts `xtask supervise` and waits until every service is ready.
///
/// # Errors
/// Where it gives up before; it has then stopped everything itself.
pub(super) fn start(workspace: &Workspace, args: &GridArgs) -> Result<()> {
    let path = workspace.logs().join("supervisor.log");
    let log = new_log(workspace, &path).with_context(|| format!("create {}", path.display()))?;
    let mut supervisor = Command::new(this_program().context("find this program")?)
        .arg("supervise")
        .args(args.words())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start the supervisor")?;
    let mut said = String::new();
    if let Some(stdout) = supervisor.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).context("wait for the supervisor")?;
    }
    if said.trim_end() == READY {
        return Ok(());
    }
    let status = supervisor.wait().context("wait for the supervisor")?;
    let lines = log::tail(&path, LOG_LINES_SHOWN).join("\n  ");
    match status.code() {
        Some(2) => Err(Refused(lines).into()),
        Some(_) | None => Err(anyhow!("the supervisor gave up ({status}):\n  {lines}")),
    }
}

fn new_log(workspace: &Workspace, path: &std::path::Path) -> std::io::Result<File> {
    fs::create_dir_all(workspace.logs())?;
    log::rotate(path)?;
    File::create(path)
}

/// The file of this program. The build may have put a new one in its place, which Linux says behind the path.
fn this_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(path))
}

//! The Python environment of the peers: made once, installed by pip with whatever index pip is configured for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Choice, Place, Task};

const REQUIREMENTS: &str = "peers-requirements.txt";
/// Holds the requirements that were installed, so that others are installed anew.
const INSTALLED: &str = "installed.txt";
/// Wheels of torch for CPUs alone; they save some gigabytes where the index has them.
const TORCH: &str = "torch==";
const TORCH_CPU: &str = "+cpu";

/// A Python with the packages of all peers, or of as many as could be installed.
#[derive(Debug)]
pub(crate) struct Environment {
    python: PathBuf,
    script: PathBuf,
}

impl Environment {
    /// Makes the environment of `choice`, or takes the one that is there.
    ///
    /// # Errors
    /// Where Python has no `venv`. A package that cannot be installed is named; its peers will fail by name.
    pub(crate) fn provide(choice: &Choice) -> Result<Self> {
        let dir = choice.dir.join("python");
        let environment = Self { python: dir.join("bin/python"), script: choice.script.clone() };
        let file = choice.script.with_file_name(REQUIREMENTS);
        let requirements =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if fs::read_to_string(dir.join(INSTALLED)).is_ok_and(|installed| installed == requirements) {
            return Ok(environment);
        }
        crate::progress(&format!(
            "peers: installing {} packages and what they need under {} (some gigabytes where torch brings CUDA)",
            packages(&requirements).count(),
            dir.display()
        ));
        let made = Command::new(&choice.python).args(["-m", "venv"]).arg(&dir).stdin(Stdio::null()).status();
        let made = made.with_context(|| format!("start {}", choice.python.display()))?;
        ensure!(
            made.success(),
            "`{} -m venv` failed: is the package python3-venv there?",
            choice.python.display()
        );
        if environment.install(&requirements)? {
            fs::write(dir.join(INSTALLED), &requirements)?;
        }
        Ok(environment)
    }

    /// Installs all at once, or one by one where that fails; whether all are there.
    fn install(&self, requirements: &str) -> Result<bool> {
        let torch = packages(requirements).find(|package| package.starts_with(TORCH));
        let for_cpus = torch.map(|torch| format!("{torch}{TORCH_CPU}"));
        if for_cpus.is_some_and(|torch| !self.pip(&[&torch]).unwrap_or(false)) {
            crate::progress("peers: the index has no torch for CPUs alone, the usual one is installed");
        }
        if self.pip(&packages(requirements).collect::<Vec<_>>())? {
            return Ok(true);
        }
        for package in packages(requirements) {
            if !self.pip(&[package])? {
                crate::progress(&format!("peers: {package} could not be installed"));
            }
        }
        Ok(false)
    }

    /// pip's own progress goes to standard error: standard output is for the report.
    fn pip(&self, packages: &[&str]) -> Result<bool> {
        let mut pip = Command::new(&self.python);
        pip.args(["-m", "pip", "install"]).args(packages).stdin(Stdio::null()).stdout(std::io::stderr());
        Ok(pip.status().context("start pip")?.success())
    }

    /// The names of all peers.
    pub(crate) fn peers(&self) -> Result<Vec<String>> {
        let output = self.script("list").stderr(Stdio::inherit()).output().context("start peers.py")?;
        ensure!(output.status.success(), "`peers.py list` failed ({})", output.status);
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Exports the model for all peers, once for each model.
    pub(crate) fn prepare(&self, task: Task, place: &Place) -> Result<()> {
        let mut prepare = self.script("prepare");
        // The names of the steps are progress; what libraries say is in the log.
        let log = log(&place.log("prepare"))?;
        prepare.args(common(task, place)).stdout(std::io::stderr()).stderr(log);
        let status = prepare.status().context("start peers.py")?;
        if !status.success() {
            bail!("`peers.py prepare` failed ({status})");
        }
        Ok(())
    }

    /// What starts the process of the peer `name`.
    pub(crate) fn serve(&self, name: &str, task: Task, place: &Place) -> Result<Command> {
        let mut serve = self.script("serve");
        serve.arg(name).args(common(task, place)).arg("--ids").arg(&place.ids).stderr(log(&place.log(name))?);
        Ok(serve)
    }

    fn script(&self, task: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg(task).stdin(Stdio::null());
        command
    }
}

fn common(task: Task, place: &Place) -> [std::ffi::OsString; 8] {
    let (pooling, threads) = (task.pooling.to_string(), task.threads.to_string());
    [
        "--model".into(),
        task.model.into(),
        "--work".into(),
        place.work.clone().into(),
        "--pooling".into(),
        pooling.into(),
        "--threads".into(),
        threads.into(),
    ]
}

fn log(file: &Path) -> Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}

/// The lines that name a package.
fn packages(requirements: &str) -> impl Iterator<Item = &str> {
    requirements.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

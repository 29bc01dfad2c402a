//! Where things are: the workspace root, the binaries cargo builds, and `.sutra/` with all that is written.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::console;

/// The workspace xtask belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    profile: Profile,
}

/// How cargo builds.
#[derive(Clone, Copy, Debug)]
enum Profile {
    /// As it is meant to be used.
    Release,
    /// As it is tested, with assertions.
    Dev,
}

impl Workspace {
    /// The workspace whose `xtask` cargo is running.
    pub(crate) fn find() -> Self {
        let manifest_dir =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir).parent().unwrap_or(Path::new(".")).to_owned();
        Self { root, profile: Profile::Release }
    }

    /// The same, whose binaries are those that tests build anyway.
    pub(crate) fn of_tests(&self) -> Self {
        Self { profile: Profile::Dev, ..self.clone() }
    }

    /// A workspace at `root`, for tests.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), profile: Profile::Release }
    }

    /// The folder with the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Fetched models, one folder each.
    pub(crate) fn models(&self) -> PathBuf {
        self.root.join(".sutra/models")
    }

    /// What the peers of the engine's bench need: a Python environment, exported models, logs.
    pub(crate) fn peers(&self) -> PathBuf {
        self.root.join(".sutra/peers")
    }

    /// One log per service.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join(".sutra/logs")
    }

    /// The vectors that survive a restart, where the caller names no other place.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join(".sutra/cache")
    }

    /// What HAProxy does.
    pub(crate) fn balancer_configuration(&self) -> PathBuf {
        self.root.join("haproxy/ml-base-lb.cfg")
    }

    /// Exists while services run.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.join(".sutra/run")
    }

    /// Held locked by the supervisor for as long as it lives.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join(".sutra/lock")
    }

    /// `path` as a user would type it from the root.
    pub(crate) fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The cargo that started xtask, in the root.
    ///
    /// What `cargo run` says about the xtask package is taken out of the environment: build scripts that watch those
    /// variables would run again on every change between `cargo build` and `cargo xtask`.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if is_set_by_cargo_run(&name.to_string_lossy()) {
                cargo.env_remove(name);
            }
        }
        cargo
    }

    /// Builds every binary of the workspace.
    ///
    /// Always the whole workspace: a single package would get other features of shared dependencies and compile them
    /// a second time.
    pub(crate) fn build_binaries(&self) -> Result<()> {
        console::warn("building (the first time takes some minutes)");
        let status = self
            .cargo()
            .args(["build", "--workspace"])
            .args(match self.profile {
                Profile::Release => ["--bins", "--release"].as_slice(),
                // With what tests ask for beside, as the tests are built next: with other features all would be built twice.
                Profile::Dev => &["--all-targets"],
            })
            .stdin(Stdio::null())
            .status()
            .context("start cargo build")?;
        if !status.success() {
            bail!("cargo build failed ({status})");
        }
        Ok(())
    }

    /// The path of a binary that [`Self::build_binaries`] has built.
    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf> {
        Ok(self.binaries()?.join(name))
    }

    /// The folder with every binary that [`Self::build_binaries`] has built.
    pub(crate) fn binaries(&self) -> Result<PathBuf> {
        let target = self.metadata()?["target_directory"].as_str().map(PathBuf::from);
        Ok(target.context("cargo metadata names no target_directory")?.join(match self.profile {
            Profile::Release => "release",
            Profile::Dev => "debug",
        }))
    }

    /// What `cargo metadata --no-deps` says.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed ({})", output.status);
        }
        serde_json::from_slice(&output.stdout).context("parse cargo metadata")
    }

    /// Builds every binary and becomes the one called `name`. Returns only where that fails.
    pub(crate) fn become_binary(&self, name: &str, args: Vec<OsString>) -> anyhow::Error {
        match self.build_binaries() {
            Ok(()) => self.become_built(name, args),
            Err(error) => error,
        }
    }

    /// Becomes the binary `name`, which has been built. Returns only where that fails.
    pub(crate) fn become_built(&self, name: &str, args: Vec<OsString>) -> anyhow::Error {
        match self.binary(name) {
            Ok(path) => {
                let error = Command::new(&path).args(args).exec();
                anyhow::Error::new(error).context(format!("start {}", path.display()))
            }
            Err(error) => error,
        }
    }
}

fn is_set_by_cargo_run(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_xtask_package_are_not_passed_to_cargo() {
        assert!(is_set_by_cargo_run("CARGO_PKG_NAME"));
        assert!(is_set_by_cargo_run("CARGO_MANIFEST_DIR"));
        assert!(!is_set_by_cargo_run("CARGO_HOME"));
        assert!(!is_set_by_cargo_run("CARGO_TARGET_DIR"));
    }

    #[test]
    fn paths_are_shown_from_the_root() {
        let workspace = Workspace::at(Path::new("/somewhere"));
        assert_eq!(workspace.relative(&workspace.logs()), Path::new(".sutra/logs"));
        assert_eq!(workspace.relative(Path::new("/elsewhere/x")), Path::new("/elsewhere/x"));
    }
}

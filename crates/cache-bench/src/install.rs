//! The peers, installed where they are missing and this may.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{
    engine::{Engine, find},
    progress,
};

/// Who may install a package here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    Root,
    Sudo,
}

/// Where the program of each of `peers` lies. What is missing is installed, and that is said first.
///
/// # Errors
/// Where it cannot be installed; the sentence says what to do.
pub(crate) async fn provide(peers: &[Engine], no_install: bool) -> Result<Vec<(Engine, PathBuf)>> {
    let missing: Vec<&str> =
        peers.iter().map(|peer| peer.program()).filter(|name| find(name).is_none()).collect();
    if !missing.is_empty() {
        install(&missing, no_install)
            .await
            .with_context(|| format!("not installed: {}", missing.join(", ")))?;
    }
    let found = peers.iter().map(|peer| {
        let file = find(peer.program()).with_context(|| format!("{} is still missing", peer.program()))?;
        Ok((*peer, file))
    });
    found.collect()
}

async fn install(packages: &[&str], no_install: bool) -> Result<()> {
    let is_root = || rustix::process::geteuid().is_root();
    let installer = choose(no_install, find("apt-get").is_some(), is_root, sudo_asks_nothing)?;
    let names = packages.join(" ");
    progress::say(format!(
        "installing the peers: apt-get update, apt-get install {names} (`--no-install` does without)"
    ));
    // A source that cannot be reached makes `update` fail, although the packages may come from another one.
    apt_get(installer, &["update"]).await?;
    let words = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    ensure!(apt_get(installer, &words).await?, "apt-get could not install {names}");
    if Path::new("/run/systemd/system").exists() {
        progress::say(format!("systemd may have started {names}; `systemctl disable --now` ends them"));
    }
    Ok(())
}

fn choose(
    no_install: bool,
    has_apt_get: bool,
    is_root: impl FnOnce() -> bool,
    sudo_asks_nothing: impl FnOnce() -> bool,
) -> Result<Installer> {
    if no_install {
        bail!("`--no-install` forbids to install it");
    } else if !has_apt_get {
        bail!("there is no apt-get to install it");
    } else if is_root() {
        Ok(Installer::Root)
    } else if sudo_asks_nothing() {
        Ok(Installer::Sudo)
    } else {
        bail!("only root or a sudo that asks nothing may install it");
    }
}

fn sudo_asks_nothing() -> bool {
    let mut sudo = std::process::Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}

/// Runs apt-get to its end; says whether it succeeded.
async fn apt_get(installer: Installer, words: &[&str]) -> Result<bool> {
    let mut command = command(installer);
    // Standard output holds nothing but the report.
    command.args(words).stdin(Stdio::null()).stdout(std::io::stderr()).kill_on_drop(true);
    Ok(command.status().await.context("start apt-get")?.success())
}

fn command(installer: Installer) -> Command {
    let mut command = match installer {
        Installer::Root => Command::new("env"),
        Installer::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    // In runlevel 1 invoke-rc.d starts no service: the bench starts its own, and nobody asked for those of the packages.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> bool {
        panic!("not asked")
    }

    #[test]
    fn root_installs_and_others_only_with_a_sudo_that_asks_nothing() {
        assert_eq!(choose(false, true, || true, never).unwrap(), Installer::Root);
        assert_eq!(choose(false, true, || false, || true).unwrap(), Installer::Sudo);
        assert!(choose(false, true, || false, || false).unwrap_err().to_string().contains("sudo"));
    }

    #[test]
    fn nothing_is_tried_where_it_is_forbidden_or_cannot_work() {
        assert!(choose(true, true, never, never).unwrap_err().to_string().contains("--no-install"));
        assert!(choose(false, false, never, never).unwrap_err().to_string().contains("apt-get"));
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        // Ours is never installed from a package; beside a test program it is not.
        let error = provide(&[Engine::CacheShard], true).await;
        if let Err(error) = error {
            assert!(format!("{error:#}").contains("not installed: cache-shard"), "{error:#}");
        }
    }
}

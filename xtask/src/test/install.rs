//! HAProxy for the tests that need it: installed where that is allowed.

use std::env;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::console;
use crate::haproxy::Haproxy;

/// Exists where systemd starts the services of packages.
const SYSTEMD: &str = "/run/systemd/system";

/// Who may install a package here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installer {
    Root,
    Sudo,
}

/// Installs HAProxy where it is missing and this may. What is done, or why not, is said first; no failure stops the tests.
pub(super) fn provide_haproxy(no_install: bool) {
    if matches!(Haproxy::installed(), Haproxy::At(_)) {
        return;
    }
    let outcome = match installer(no_install) {
        Ok(installer) => {
            console::warn(
                "installing HAProxy, which some tests need: apt-get update, apt-get install haproxy \
                 (`cargo xtask test --no-install` does without)",
            );
            install(installer).map_err(|error| format!("{error:#}"))
        }
        Err(reason) => Err(format!("HAProxy is not installed, and {reason}")),
    };
    if let Err(reason) = outcome {
        console::warn(format!("{reason}; tests that need it will skip themselves"));
    }
}

fn installer(no_install: bool) -> Result<Installer, &'static str> {
    let is_root = rustix::process::geteuid().is_root();
    choose(no_install, has_apt_get(), || is_root, sudo_asks_nothing)
}

fn choose(
    no_install: bool,
    has_apt_get: bool,
    is_root: impl FnOnce() -> bool,
    sudo_asks_nothing: impl FnOnce() -> bool,
) -> Result<Installer, &'static str> {
    if no_install {
        Err("`--no-install` forbids to install it")
    } else if !has_apt_get {
        Err("there is no apt-get to install it")
    } else if is_root() {
        Ok(Installer::Root)
    } else if sudo_asks_nothing() {
        Ok(Installer::Sudo)
    } else {
        Err("only root or a sudo that asks nothing may install it")
    }
}

fn has_apt_get() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join("apt-get").is_file())
}

fn sudo_asks_nothing() -> bool {
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}

fn install(installer: Installer) -> Result<()> {
    // A source that cannot be reached makes `update` fail, although the package may come from another one.
    apt_get(installer, &["update"])?;
    if !apt_get(installer, &["install", "--yes", "--no-install-recommends", "haproxy"])? {
        bail!("HAProxy could not be installed");
    }
    if Path::new(SYSTEMD).exists() {
        console::warn(
            "systemd may have started the package's own haproxy, which opens no port; \
             `systemctl disable --now haproxy` ends it",
        );
    }
    Ok(())
}

/// Runs apt-get to its end; says whether it succeeded.
fn apt_get(installer: Installer, words: &[&str]) -> Result<bool> {
    let mut command = command(installer, words);
    // The standard output of `test` ends with the counts and holds nothing but what the tests say.
    command.stdin(Stdio::null()).stdout(io::stderr());
    Ok(command.status().context("start apt-get")?.success())
}

fn command(installer: Installer, words: &[&str]) -> Command {
    let mut command = match installer {
        Installer::Root => Command::new("env"),
        Installer::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    // In runlevel 1 invoke-rc.d starts no service: nobody asked for the one the package brings.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]).args(words);
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
        assert_eq!(choose(false, true, || true, never), Ok(Installer::Root));
        assert_eq!(choose(false, true, || false, || true), Ok(Installer::Sudo));
        assert!(choose(false, true, || false, || false).unwrap_err().contains("sudo"));
    }

    #[test]
    fn nothing_is_tried_where_it_is_forbidden_or_cannot_work() {
        assert!(choose(true, true, never, never).unwrap_err().contains("--no-install"));
        assert!(choose(false, false, never, never).unwrap_err().contains("apt-get"));
    }

    #[test]
    fn sudo_passes_the_variables_on() {
        let words = |installer| {
            let command = command(installer, &["update"]);
            let args: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            format!("{} {}", command.get_program().display(), args.join(" "))
        };
        let line = "env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq update";
        assert_eq!(words(Installer::Root), line);
        assert_eq!(words(Installer::Sudo), format!("sudo -n {line}"));
    }
}

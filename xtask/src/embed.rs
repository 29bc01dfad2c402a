//! `embed`: a file of texts through the running grid, by `embed-file`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::state::State;
use crate::workspace::Workspace;

/// Becomes `embed-file`.
pub(crate) fn run(workspace: &Workspace, args: Vec<OsString>) -> Result<ExitCode> {
    let args = with_url(State::load_running(workspace)?.as_ref().and_then(State::url), args)?;
    Err(workspace.become_binary("embed-file", args))
}

/// `args` with `--url`, that of the running grid, unless they have one or only ask for help.
///
/// # Errors
/// Where an url is needed and nothing runs.
pub(crate) fn with_url(url: Option<String>, mut args: Vec<OsString>) -> Result<Vec<OsString>> {
    if !has_flag(&args, "--url") && !asks_for_help(&args) {
        let url =
            url.context("nothing runs: start it with `cargo xtask up`, or give `--url http://HOST:PORT`")?;
        args.extend(["--url".into(), url.into()]);
    }
    Ok(args)
}

/// Whether `flag` is among `args`, as `--flag value` or `--flag=value`.
pub(crate) fn has_flag(args: &[OsString], flag: &str) -> bool {
    let is_flag = |arg: &OsString| {
        arg.to_str()
            .and_then(|arg| arg.strip_prefix(flag))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    args.iter().any(is_flag)
}

/// Whether the user wants to read, not to run.
pub(crate) fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().any(|arg| matches!(arg.to_str(), Some("--help" | "-h" | "--version" | "-V")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn given_url_and_help_pass_without_a_grid() {
        for given in [["--url", "http://h:1"].as_slice(), &["--url=http://h:1"], &["--help"]] {
            assert_eq!(with_url(None, args(given)).unwrap(), args(given));
        }
    }

    #[test]
    fn missing_grid_is_an_error_that_says_what_to_do() {
        let error = with_url(None, args(&["--file", "x", "--url-list", "y"])).unwrap_err();
        assert!(error.to_string().contains("cargo xtask up"), "{error}");
    }
}

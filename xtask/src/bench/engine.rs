//! `bench engine`: gets the model, then becomes `engine-bench`.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::embed::{asks_for_help, has_flag};
use crate::model;
use crate::workspace::Workspace;

const MODEL: &str = "--model";
const MODEL_DEFAULT: &str = "medium";

/// Becomes `engine-bench` with the directory of the model that `args` name.
pub(crate) fn run(workspace: &Workspace, mut args: Vec<OsString>) -> Result<ExitCode> {
    workspace.build_binaries()?;
    if !asks_for_help(&args) {
        let name = take_value(&mut args, MODEL)?.unwrap_or_else(|| MODEL_DEFAULT.into());
        let name = name.into_string().ok().with_context(|| format!("`{MODEL}` is not UTF-8"))?;
        args.extend([MODEL.into(), model::fetch(workspace, &name)?.into()]);
        for (flag, place) in places(workspace) {
            if has_flag(&args, "--peers") && !has_flag(&args, flag) {
                args.extend([flag.into(), place]);
            }
        }
    }
    Err(workspace.become_built("engine-bench", args))
}

/// What of the workspace the peers need, wherever the user stands.
fn places(workspace: &Workspace) -> [(&'static str, OsString); 2] {
    [
        ("--peers-dir", workspace.peers().into()),
        ("--peers-script", workspace.root().join("scripts/peers.py").into()),
    ]
}

/// Takes `flag` and its value out of `args`.
///
/// # Errors
/// Where the value is missing.
fn take_value(args: &mut Vec<OsString>, flag: &str) -> Result<Option<OsString>> {
    let joined = format!("{flag}=");
    if let Some(place) = args.iter().position(|arg| arg == flag) {
        args.remove(place);
        let missing = || format!("`{flag}` wants a value");
        return (place < args.len()).then(|| args.remove(place)).with_context(missing).map(Some);
    }
    let is_joined = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with(&joined));
    let value = args.iter().position(is_joined).map(|place| args.remove(place));
    let without_flag = |arg: OsString| {
        arg.to_str().and_then(|arg| arg.strip_prefix(&joined)).map(OsStr::new).map(OsStr::to_owned)
    };
    Ok(value.and_then(without_flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(given: &[&str]) -> (Option<OsString>, Vec<OsString>) {
        let mut args: Vec<OsString> = given.iter().map(OsString::from).collect();
        (take_value(&mut args, MODEL).unwrap(), args)
    }

    #[test]
    fn model_is_taken_in_both_forms_and_the_rest_stays() {
        for given in [["--json", "--model", "small"].as_slice(), &["--model=small", "--json"]] {
            assert_eq!(taken(given), (Some("small".into()), vec!["--json".into()]));
        }
        assert_eq!(taken(&["--json"]), (None, vec!["--json".into()]));
    }

    #[test]
    fn flag_without_a_value_is_refused() {
        let error = take_value(&mut vec!["--model".into()], MODEL).unwrap_err();
        assert_eq!(error.to_string(), "`--model` wants a value");
    }
}

//! `accuracy`: what a precision class or a shorter vector costs, by `accuracy` and the ml-base that it starts.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli::DEFAULT_MODEL;
use crate::embed::asks_for_help;
use crate::model;
use crate::workspace::Workspace;

/// Builds, fetches the model where an ml-base has to be started, and becomes `accuracy`. `model` is the caller's variable.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    workspace.build_binaries()?;
    if starts_ml_base(args) && !asks_for_help(args) {
        let given = value_of(args, "--model").or_else(|| std::env::var_os("MODEL_NAME"));
        let name = given.filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_MODEL.into());
        model::fetch(workspace, name.to_str().context("`--model` is no text")?)?;
    }
    let program = workspace.binary("accuracy")?;
    let error = Command::new(&program).args(args).env("ML_BASE_MODEL_STORE", workspace.models()).exec();
    Err(anyhow::Error::new(error).context(format!("start {}", program.display())))
}

/// Whether a side is a class. Without `--reference` one is; whether the others make sense is not decided here.
fn starts_ml_base(args: &[OsString]) -> bool {
    let is_class = |flag| {
        let value = value_of(args, flag);
        value.is_none_or(|value| !value.to_string_lossy().starts_with("http://"))
    };
    ["--candidate", "--reference"].into_iter().any(is_class)
}

/// What `flag` has in `args`, as `--flag value` or `--flag=value`.
fn value_of(args: &[OsString], flag: &str) -> Option<OsString> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.to_str().and_then(|word| word.strip_prefix(flag)) {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].into()),
            Some(_) | None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn value_is_found_in_both_forms() {
        let given = args(&["--model-x", "no", "--model=small", "--candidate", "int8"]);
        assert_eq!(value_of(&given, "--model"), Some("small".into()));
        assert_eq!(value_of(&given, "--candidate"), Some("int8".into()));
        assert_eq!(value_of(&given, "--reference"), None);
    }

    #[test]
    fn model_is_needed_unless_both_sides_run_already() {
        let url = "http://127.0.0.1:1";
        assert!(starts_ml_base(&args(&["--candidate", "int8"])));
        assert!(starts_ml_base(&args(&["--candidate", url])), "the reference is float32");
        assert!(starts_ml_base(&args(&["--candidate=int8", "--reference", url])));
        assert!(!starts_ml_base(&args(&["--candidate", url, "--reference=http://h:2"])));
    }
}

//! What files and folders may be called, and what may lie at the top level.

use std::path::Path;

use super::Violation;

/// Beside dotfiles, nothing else lies at the top level.
const TOP_LEVEL: [&str; 11] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crates",
    "deploy",
    "haproxy",
    "proto",
    "rust-toolchain.toml",
    "scripts",
    "xtask",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["common", "helper", "helpers", "manager", "misc", "util", "utilities", "utils"];

/// Checks the path of one file, given from the root.
pub(super) fn check(file: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let top = file.split('/').next().unwrap_or(file);
    if !top.starts_with('.') && !TOP_LEVEL.contains(&top) {
        violations.push(Violation::new(
            file,
            format!("`{top}` at the top level"),
            TOP_LEVEL.join(" ") + " and dotfiles",
        ));
    }
    if file.ends_with("/mod.rs") {
        violations.push(Violation::new(file, "mod.rs", "foo.rs beside foo/"));
    }
    if let Some(name) = empty_name(file) {
        violations.push(Violation::new(
            file,
            format!("the name `{name}`"),
            "a name that says what is inside",
        ));
    }
    violations
}

/// A folder or file of code whose name says nothing.
fn empty_name(file: &str) -> Option<&str> {
    let stem = |part| Path::new(part).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    file.split('/').map(stem).find(|stem| EMPTY_NAMES.contains(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_paths_pass() {
        for file in ["README.md", ".github/workflows/ci.yml", "crates/engine/src/batch.rs", "Cargo.toml"] {
            assert_eq!(check(file), [], "{file}");
        }
    }

    #[test]
    fn unknown_entry_at_the_top_level_is_refused() {
        assert_eq!(check("notes.txt").len(), 1);
        assert_eq!(check("docs/index.md").len(), 1);
    }

    #[test]
    fn mod_rs_is_refused() {
        assert_eq!(check("crates/a/src/b/mod.rs").len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_refused_for_files_folders_and_crates() {
        assert_eq!(check("crates/a/src/utils.rs").len(), 1);
        assert_eq!(check("crates/common/src/lib.rs").len(), 1);
        assert_eq!(check("crates/a/tests/helpers/x.rs").len(), 1);
        assert_eq!(check("crates/a/src/uncommon.rs"), []);
    }
}

//! What `Cargo.toml` and `.clippy.toml` may hold.

use super::Violation;

/// Lines of a function; clippy's `too_many_lines` counts them.
const FUNCTION_LINES_MAX: u32 = 70;

/// Checks one `Cargo.toml`.
pub(super) fn check_manifest(file: &str, text: &str) -> Vec<Violation> {
    let mut violations: Vec<Violation> = text.lines().filter_map(|line| check_line(file, line)).collect();
    let lints = squeezed(text);
    // The targets of cargo-fuzz are a workspace of their own, which has nothing to take lints from.
    let member =
        file != "Cargo.toml" && !(file.ends_with("/fuzz/Cargo.toml") && lints.contains("[workspace]\n"));
    // Without it the crate would be free of every lint that the workspace sets.
    if member && !file.starts_with("crates/kernels/") && !lints.contains("[lints]\nworkspace=true") {
        violations.push(Violation::new(file, "own lints or none", "[lints] workspace = true"));
    }
    violations
}

fn check_line(file: &str, line: &str) -> Option<Violation> {
    let line = squeezed(line.split('#').next().unwrap_or_default());
    if line.contains("=\"*\"") {
        Some(Violation::new(file, line, "a version, not `*`"))
    } else if line.contains("git=\"") || line.starts_with("git=") {
        Some(Violation::new(file, line, "dependencies from the registry, not from git"))
    } else {
        None
    }
}

/// Checks `.clippy.toml`.
pub(super) fn check_clippy(file: &str, text: &str) -> Vec<Violation> {
    let prefix = "too-many-lines-threshold=";
    let squeezed = squeezed(text);
    let threshold = squeezed.lines().find_map(|line| line.strip_prefix(prefix)?.parse::<u32>().ok());
    match threshold {
        Some(FUNCTION_LINES_MAX) => Vec::new(),
        other => {
            let found =
                format!("{prefix}{}", other.map_or_else(|| "nothing".to_owned(), |lines| lines.to_string()));
            vec![Violation::new(file, found, format!("{FUNCTION_LINES_MAX} lines a function"))]
        }
    }
}

/// The text without blanks, lines kept.
fn squeezed(text: &str) -> String {
    text.chars().filter(|character| !matches!(character, ' ' | '\t' | '\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn found(dependency: &str) -> usize {
        check_manifest("crates/a/Cargo.toml", &format!("{LINTS}[dependencies]\n{dependency}\n")).len()
    }

    #[test]
    fn versions_of_the_registry_pass() {
        assert_eq!(
            found("a = \"1.0\"\nb = { version = \"2\", features = [\"git\"] } # not \"*\", not git = \"…\""),
            0
        );
    }

    #[test]
    fn any_version_and_git_are_refused() {
        assert_eq!(found("a = \"*\""), 1);
        assert_eq!(found("a = { version = \"*\" }"), 1);
        assert_eq!(found("a = { git = \"https://example.org/a\" }"), 1);
        assert_eq!(found("[dependencies.a]\ngit = \"https://example.org/a\""), 1);
    }

    #[test]
    fn member_takes_the_lints_of_the_workspace() {
        assert_eq!(check_manifest("crates/a/Cargo.toml", "[package]\n").len(), 1);
        assert_eq!(check_manifest("Cargo.toml", "[workspace]\n"), []);
        assert_eq!(check_manifest("crates/a/fuzz/Cargo.toml", "[workspace]\n[package]\n"), []);
        assert_eq!(check_manifest("crates/a/fuzz/Cargo.toml", "[package]\n").len(), 1);
    }

    #[test]
    fn clippy_counts_seventy_lines() {
        assert_eq!(check_clippy(".clippy.toml", "too-many-lines-threshold = 70\n"), []);
        assert_eq!(check_clippy(".clippy.toml", "too-many-lines-threshold = 100\n").len(), 1);
        assert_eq!(check_clippy(".clippy.toml", "").len(), 1);
    }
}

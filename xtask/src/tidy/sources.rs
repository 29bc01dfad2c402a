//! What Rust files may hold.

use super::Violation;

/// Lines of a file, tests included.
const LINES_MAX: usize = 500;

/// The crate that exists for unsafe code.
const UNSAFE_CRATE: &str = "crates/kernels/";

/// Other files that may hold unsafe code, each with its reason, which `crates/DECISIONS.md` repeats.
const UNSAFE_FILES: [(&str, &str); 1] = [(
    "crates/engine/src/weights.rs",
    "safetensors files are memory-mapped: 90 MB are not copied, replicas share pages",
)];

/// The lint that a file has to switch off before it can hold unsafe code. Put together here, so that this file passes.
const UNSAFE_LINT: &str = concat!("unsafe", "_code");

/// Checks one file, its path given from the root.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        violations.push(Violation::new(file, format!("{lines} lines"), format!("{LINES_MAX} lines")));
    }
    if is_crate_root(file) && !text.starts_with("//!") {
        violations.push(Violation::new(file, "no `//!` at its begin", "every crate says first what it is"));
    }
    if switches_unsafe_on(text) && !may_be_unsafe(file) {
        let allowed: Vec<&str> = UNSAFE_FILES.iter().map(|(file, _reason)| *file).collect();
        let limit = format!("unsafe code only in {UNSAFE_CRATE} and {}", allowed.join(", "));
        violations.push(Violation::new(file, format!("the lint `{UNSAFE_LINT}` switched off"), limit));
    }
    violations
}

fn is_crate_root(file: &str) -> bool {
    file.ends_with("src/lib.rs") || file.ends_with("src/main.rs")
}

fn switches_unsafe_on(text: &str) -> bool {
    // The workspace denies the lint, so unsafe code compiles only where an attribute names it.
    let code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(code).any(|line| line.contains(UNSAFE_LINT))
}

fn may_be_unsafe(file: &str) -> bool {
    file.starts_with(UNSAFE_CRATE) || UNSAFE_FILES.iter().any(|(allowed, _reason)| *allowed == file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_at_the_limit_passes_and_one_line_more_does_not() {
        assert_eq!(check("a.rs", &"x\n".repeat(500)), []);
        assert_eq!(check("a.rs", &"x\n".repeat(501))[0].found, "501 lines");
    }

    #[test]
    fn crate_root_begins_with_its_documentation() {
        assert_eq!(check("crates/a/src/lib.rs", "//! What it is.\n"), []);
        assert_eq!(check("crates/a/src/main.rs", "fn main() {}\n").len(), 1);
        assert_eq!(check("crates/a/src/other.rs", "fn other() {}\n"), []);
    }

    #[test]
    fn lint_switched_off_is_refused_outside_its_places() {
        let text = format!("#[expect(\n    {UNSAFE_LINT},\n    reason = \"x\"\n)]\nfn f() {{}}\n");
        assert_eq!(check("crates/ml-base/src/queue.rs", &text).len(), 1);
        assert_eq!(check("crates/kernels/src/ffi.rs", &text), []);
        assert_eq!(check(UNSAFE_FILES[0].0, &text), []);
        assert_eq!(check("crates/ml-base/src/queue.rs", &format!("// {UNSAFE_LINT} is denied\n")), []);
    }
}

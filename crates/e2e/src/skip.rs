//! How a test says that it could not run here.

use std::io::Write;

/// Says why the test `name` does not run, on stderr and as a line of the file `SUTRA_SKIP_LOG`.
///
/// # Panics
/// If the variable `require` is set: then what is missing here has to be there.
pub(crate) fn skip(name: &str, reason: &str, require: &str) {
    let skipped = format!("e2e::{name}: {reason}\n");
    assert!(variable(require).is_none(), "{skipped}");
    if let Some(log) = variable("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

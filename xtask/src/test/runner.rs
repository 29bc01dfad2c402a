//! Runs a test runner, passes its output on, and reads the counts from it on the way.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::counts::Counts;
use crate::console;

/// How long to wait for the rest of the output once the runner has ended.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// How a runner ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) counts: Counts,
    pub(super) code: u8,
}

/// Runs `command` to its end, its output passed on to `out` and `err`.
pub(super) fn run(
    command: &mut Command,
    out: impl Write + Send + 'static,
    err: impl Write + Send + 'static,
) -> Result<Outcome> {
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let (sender, counted) = channel();
    pass_on_beside(child.stdout.take(), out, sender.clone())?;
    pass_on_beside(child.stderr.take(), err, sender)?;
    let code = exit_code(child.wait().with_context(|| format!("wait for {name}"))?);
    let mut counts = collect(&counted);
    counts.note_exit_code(code);
    Ok(Outcome { counts, code })
}

/// Passes one stream on in a thread of its own, which sends the counts of each line that names some.
fn pass_on_beside(
    from: Option<impl Read + Send + 'static>,
    to: impl Write + Send + 'static,
    sender: Sender<Counts>,
) -> Result<()> {
    let run = move || {
        if let Some(from) = from {
            pass_on(from, to, |counts| sender.send(counts).unwrap_or(()));
        }
    };
    thread::Builder::new().name("output".to_owned()).spawn(run).map(drop).context("start a thread")
}

/// Sums the counts until both streams have ended. The runner has: what still holds a stream open is a process that a test
/// left behind, and nobody waits for that.
fn collect(counted: &Receiver<Counts>) -> Counts {
    let mut sum = Counts::default();
    loop {
        match counted.recv_timeout(STREAM_TIMEOUT) {
            Ok(counts) => sum.add(&counts),
            Err(RecvTimeoutError::Disconnected) => return sum,
            Err(RecvTimeoutError::Timeout) => {
                console::warn("a process that a test started is still running");
                return sum;
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(1),
        None => 1,
    }
}

/// Copies `from` line by line and reports the counts that lines name.
fn pass_on(from: impl Read, mut to: impl Write, mut report: impl FnMut(Counts)) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // A reader that went away does not end the tests.
        to.write_all(&line).and_then(|()| to.flush()).ok();
        if let Some(counts) = Counts::of_line(String::from_utf8_lossy(&line).trim_end()) {
            report(counts);
        }
        line.clear();
    }
}

/// Whether a `.rs` file below `folder` holds a doc test: a code block in a doc comment that names no other language.
pub(super) fn has_doc_tests(folder: &Path) -> Result<bool> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        let found = if path.is_dir() {
            has_doc_tests(&path)?
        } else {
            path.extension().is_some_and(|extension| extension == "rs")
                && holds_doc_test(
                    &fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
                )
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_doc_test(source: &str) -> bool {
    let mut inside = false;
    for line in source.lines().map(str::trim_start) {
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(language) = doc.and_then(|doc| doc.trim_start().strip_prefix("```")) else { continue };
        if !inside && matches!(language.trim(), "" | "rust" | "no_run" | "should_panic" | "compile_fail") {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::process::ProcessIdentity;

    fn outcome_of(script: &str) -> Outcome {
        run(Command::new("/bin/sh").args(["-c", script]), io::sink(), io::sink()).unwrap()
    }

    #[test]
    fn counts_come_from_both_streams_and_the_code_from_the_runner() {
        let outcome = outcome_of(
            "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
            echo '  Summary [ 0.1s] 3 tests run: 1 passed, 2 failed, 0 skipped' >&2; exit 100",
        );
        assert_eq!(outcome, Outcome { counts: Counts { passed: 3, failed: 2, skipped: 0 }, code: 100 });
    }

    #[test]
    fn runner_killed_by_a_signal_is_a_failure() {
        let outcome = outcome_of("kill -9 $$");
        assert_eq!(outcome, Outcome { counts: Counts { passed: 0, failed: 1, skipped: 0 }, code: 1 });
    }

    #[test]
    fn process_left_behind_does_not_hold_up_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!(
            "sleep 600 & echo $! > '{}'; echo 'test result: ok. 2 passed; 0 failed'",
            pid_file.display()
        );
        assert_eq!(outcome_of(&script).counts.passed, 2);
        let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        let left_behind = ProcessIdentity::of(pid).unwrap();
        left_behind.signal(rustix::process::Signal::KILL);
    }

    #[test]
    fn output_without_a_last_newline_is_passed_on_whole() {
        let mut copy = Vec::new();
        pass_on(b"a\nb".as_slice(), &mut copy, |counts| panic!("no counts in {counts}"));
        assert_eq!(copy, b"a\nb");
    }

    #[test]
    fn only_rust_blocks_in_doc_comments_are_doc_tests() {
        assert!(holds_doc_test("/// ```\n/// let a = 1;\n/// ```\n"));
        assert!(holds_doc_test("//! ```text\n//! picture\n//! ```\n//! ```rust\n"));
        assert!(!holds_doc_test("//! ```text\n//! picture\n//! ```\nfn f() {}\n"));
        assert!(!holds_doc_test("let text = \"```\";\n"));
    }
}

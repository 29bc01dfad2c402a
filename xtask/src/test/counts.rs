//! The counts of a run, read from what the runner prints.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Counts {
    /// Adds the counts of another run.
    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Moves tests that skipped themselves from the passed ones, where runners count them.
    pub(super) fn note_skipped_themselves(&mut self, count: usize) {
        let moved = count.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
    }

    /// A runner that fails without a failed test (it did not compile, it crashed) is itself one failure.
    pub(super) fn note_exit_code(&mut self, code: u8) {
        if code != 0 {
            self.failed = self.failed.max(1);
        }
    }

    /// What one line of output says; most lines say nothing.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let line = without_colours(line);
        parse_cargo_test(&line).or_else(|| parse_nextest(&line))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(formatter, ", {skipped} skipped"),
        }
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn parse_cargo_test(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    Some(count_words(counts.split(';')))
}

/// `     Summary [   1.2s] 6 tests run: 3 passed (1 slow, 1 flaky), 2 failed, 1 timed out, 4 skipped`
fn parse_nextest(line: &str) -> Option<Counts> {
    let (_, run) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
    let (_, counts) = run.split_once(" run: ")?;
    let plain = without_parentheses(counts);
    Some(count_words(plain.split(',')))
}

fn count_words<'a>(parts: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for part in parts {
        let Some((number, word)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        match word.trim() {
            "passed" => counts.passed += number,
            "failed" | "timed out" | "exec failed" => counts.failed += number,
            // nextest's `skipped` and libtest's `filtered out` are tests that the caller did not choose.
            "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0usize;
    let keep = |character: &char| {
        match character {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                return false;
            }
            _ => {}
        }
        depth == 0
    };
    text.chars().filter(keep).collect()
}

/// The line without terminal colours, which are `ESC [ … m`.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(output: &str) -> Counts {
        let mut counts = Counts::default();
        output.lines().filter_map(Counts::of_line).for_each(|of_line| counts.add(&of_line));
        counts
    }

    #[test]
    fn results_of_cargo_test_are_summed() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
            test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(counts_of(output), Counts { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn summary_of_nextest_counts_every_kind_of_failure() {
        let line = "     Summary [   1.204s] 8/9 tests run: 4 passed (1 slow, 1 flaky), 2 failed, 1 exec failed, 1 timed out, 7 skipped";
        assert_eq!(counts_of(line), Counts { passed: 4, failed: 4, skipped: 0 });
    }

    #[test]
    fn colours_do_not_hide_the_summary() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.005s] \u{1b}[1m3\u{1b}[0m tests run: \u{1b}[1m3\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(counts_of(line), Counts { passed: 3, failed: 0, skipped: 0 });
    }

    #[test]
    fn other_lines_say_nothing() {
        assert_eq!(
            counts_of("test a::b ... ok\nSummary of results: 3 passed\n12 passed, 0 failed"),
            Counts::default()
        );
    }

    #[test]
    fn test_that_skipped_itself_is_not_counted_as_passed() {
        let mut counts = Counts { passed: 5, failed: 0, skipped: 1 };
        assert_eq!(counts.to_string(), "5 passed, 0 failed, 1 skipped");
        counts.note_skipped_themselves(2);
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 3 skipped");
    }

    #[test]
    fn runner_that_fails_without_a_failed_test_is_a_failure() {
        let mut counts = Counts { passed: 2, failed: 0, skipped: 0 };
        counts.note_exit_code(0);
        assert_eq!(counts.to_string(), "2 passed, 0 failed");
        counts.note_exit_code(101);
        assert_eq!(counts.to_string(), "2 passed, 1 failed");
    }
}

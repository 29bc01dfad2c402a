//! What it was measured on, and how busy that was.

use std::fs;

use serde::Serialize;

/// The processor of this machine, and its load when the bench began.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// As the kernel names it.
    pub(crate) cpu: String,
    /// Logical cores this process may use.
    pub(crate) cores: usize,
    /// Processes that ran or waited over the last minute, five and fifteen: other than near 0, and the figures are noisy.
    pub(crate) load_average: String,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = value(&cpuinfo, "model name").unwrap_or("unknown processor").to_owned();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        let load_average = if load.is_empty() { "unknown".to_owned() } else { load.join(" ") };
        Self { cpu, cores: std::thread::available_parallelism().map_or(1, usize::from), load_average }
    }
}

/// What stands behind the first `name` and a colon.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_that_of_the_first_line_of_the_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n";
        assert_eq!(value(text, "model name"), Some("A CPU @ 2 GHz"));
        assert_eq!(value(text, "VmRSS"), None);
    }
}

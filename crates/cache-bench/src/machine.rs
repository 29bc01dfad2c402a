//! What the load ran on, for the line under the numbers.

use std::fs;

use serde::Serialize;

/// The processor of this machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// As the kernel names it.
    pub(crate) cpu: String,
    /// Logical cores this process may use.
    pub(crate) cores: usize,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = parse_cpu(&cpuinfo).unwrap_or("unknown processor").to_owned();
        Self { cpu, cores: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

fn parse_cpu(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_is_the_first_model_name() {
        assert_eq!(
            parse_cpu("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n"),
            Some("A CPU @ 2 GHz")
        );
        assert_eq!(parse_cpu("processor\t: 0\n"), None);
    }
}

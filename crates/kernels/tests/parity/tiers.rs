//! The tiers of this CPU.

use std::io::Write;

use kernels::Tier;

/// The tiers of this CPU, with tiles in software if it has none. Those it lacks are named on stderr and in the file
/// `SUTRA_SKIP_LOG`.
pub(crate) fn tiers(test: &str) -> Vec<Tier> {
    kernels::software_tiles::switch_on();
    let available = Tier::available();
    let lacks = |name: &&str| !available.iter().any(|tier| tier.name() == *name);
    for name in Tier::names().into_iter().filter(lacks) {
        skip(test, &format!("this CPU or its kernel has no {name}"));
    }
    available
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn skip(test: &str, reason: &str) {
    let skipped = format!("kernels::parity::{test}: {reason}\n");
    if let Ok(log) = std::env::var("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the skip log can be opened");
        log.write_all(skipped.as_bytes()).expect("the skip can be said");
    }
    std::io::stderr().write_all(skipped.as_bytes()).expect("the skip can be said");
}

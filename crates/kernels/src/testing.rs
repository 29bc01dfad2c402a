//! What the tests of this crate share.

use std::io::Write;

use crate::tier::{Int8Kind, Tier};

/// The tiers of this CPU, with tiles in software if it has none. Those it lacks are named on stderr and in the file
/// `SUTRA_SKIP_LOG`.
pub(crate) fn tiers(test: &str) -> Vec<Tier> {
    crate::software_tiles::switch_on();
    let available = Tier::available();
    let lacks = |name: &&str| !available.iter().any(|tier| tier.name() == *name);
    for name in Tier::names().into_iter().filter(lacks) {
        skip(test, &format!("this CPU or its kernel has no {name}"));
    }
    available
}

/// The ways of this CPU to multiply int8, but for tiles, which have a product of their own. Those it lacks are named as
/// tiers are.
pub(crate) fn int8_kinds(test: &str) -> Vec<Int8Kind> {
    let all = Int8Kind::ALL.into_iter().filter(|kind| *kind != Int8Kind::Amx);
    let (had, lacking): (Vec<_>, Vec<_>) = all.partition(|kind| kind.is_available());
    for kind in lacking {
        skip(test, &format!("this CPU or its kernel has no {}", kind.name()));
    }
    had
}

/// Whether AVX-512 can be tested.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512(test: &str) -> bool {
    tiers(test).iter().any(|tier| tier.name() == "avx512")
}

/// Whether AVX2 can be tested.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2(test: &str) -> bool {
    tiers(test).iter().any(|tier| tier.name() == "avx2")
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn skip(test: &str, reason: &str) {
    let skipped = format!("kernels::{test}: {reason}\n");
    if let Ok(log) = std::env::var("SUTRA_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        log.write_all(skipped.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

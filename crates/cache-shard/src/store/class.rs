//! Which records share a segment: those that expire at about the same time, so that a whole segment expires and its file
//! is unlinked, with nothing to copy. Removals have segments of their own, because they outlive what they remove.
//!
//! The idea is that of memcached's extstore (pages by class of time to live) and of Segcache (Yang et al., NSDI 2021).

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest time to live of each class; the last class takes what is longer.
const TTL_CLASSES: [Duration; 6] = [
    Duration::from_secs(600),
    HOUR,
    Duration::from_secs(6 * 3600),
    DAY,
    Duration::from_secs(7 * 24 * 3600),
    Duration::from_secs(30 * 24 * 3600),
];

/// What the records of a segment have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u8);

impl Class {
    /// Classes there are.
    pub(super) const COUNT: usize = TTL_CLASSES.len() + 2;
    /// That of records which say that a key was removed.
    pub(super) const REMOVALS: Self = Self(0);

    /// That of a vector with so much time left.
    pub(super) fn of_remaining(remaining: Duration) -> Self {
        let shorter = TTL_CLASSES.iter().filter(|longest| remaining > **longest).count();
        Self(u8::try_from(shorter + 1).unwrap_or(u8::MAX))
    }

    /// Its number in a segment's header.
    pub(super) fn code(self) -> u8 {
        self.0
    }

    /// The class with this number.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        (usize::from(code) < Self::COUNT).then_some(Self(code))
    }

    /// Its place among all classes.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_to_live_has_a_class_and_longer_ones_no_lower_one() {
        let seconds = [0, 1, 600, 601, 3600, 86_400, 86_401, 2_592_000, 2_592_001, 316_224_000];
        let classes: Vec<u8> =
            seconds.iter().map(|seconds| Class::of_remaining(Duration::from_secs(*seconds)).code()).collect();
        assert_eq!(classes, [1, 1, 1, 2, 2, 4, 5, 6, 7, 7]);
        assert_eq!(Class::of_code(7).map(Class::index), Some(Class::COUNT - 1));
        assert_eq!(Class::of_code(8), None);
    }
}

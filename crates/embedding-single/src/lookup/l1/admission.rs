//! Who may enter a full cache: everybody, or only whom it was asked for before.
//!
//! Plain LRU takes in every vector, so one pass over many texts, such as a re-index job, pushes out all that is asked for
//! again and again. A doorkeeper (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
//! Transactions on Storage 13(4), 2017, section 3.4.2) turns each key away once and remembers that in one bit:
//!
//! ```text
//!  no room ─▶ key ─▶ known? ── yes ─▶ enters, and the least recently used goes
//!                       └───── no ──▶ noted; its vector is answered, but not kept
//!  half as many noted as there are entries ─▶ what was noted before these is forgotten
//! ```
//!
//! A text that comes once hardly ever pushes another out; one that comes back before it is forgotten costs one more miss.
//! `cargo xtask bench l1`, at 2,000, 10,000 and 50,000 entries: 1 to 9 points more hits than plain LRU on six made-up kinds
//! of traffic. On the plan's financial one it is 12 more, 1 less and 6 less: where nearly all fits, and each text is asked
//! for only a few times soon after its first, that miss is dear, and `lru` is the better choice.
//!
//! Goals: what it takes is bounded by the entries; no hashing, keys are digests already.
//!
//! Non-goals: a say in who goes, that is least recent use; certainty, a few enter at once by chance.

use clap::ValueEnum;
use serde::Serialize;

use crate::key::CacheKey;

/// Who may enter a full L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Every vector.
    Lru,
    /// A vector that was asked for before, not too long ago.
    #[default]
    Doorkeeper,
}

/// Bits for each key that is noted: one key in sixteen is taken for one that was, at most.
const BITS_PER_KEY: usize = 16;
/// Keys noted until the ones before are forgotten, by the entries of the cache. More would let in what is asked for too
/// seldom, fewer would forget what comes back.
const ENTRIES_PER_KEY: usize = 2;
const WORD_BITS: usize = u64::BITS as usize;
/// Where in a digest the place lies, behind what chooses the shard.
const PLACE_OFFSET: usize = 8;

/// The policy of one shard, with what it remembers.
#[derive(Debug)]
pub(super) struct Gate(Option<Doorkeeper>);

impl Gate {
    /// A gate for a shard of at most `entries` entries.
    pub(super) fn new(admission: Admission, entries: usize) -> Self {
        match admission {
            Admission::Lru => Self(None),
            Admission::Doorkeeper => Self(Some(Doorkeeper::new(entries))),
        }
    }

    /// Whether `key` may push another one out; if not, it may the next time.
    pub(super) fn admits(&mut self, key: &CacheKey) -> bool {
        self.0.as_mut().is_none_or(|doorkeeper| doorkeeper.knows(key))
    }
}

/// The keys that were turned away last, a bit each; in two halves, so that never all are forgotten at once.
#[derive(Debug)]
struct Doorkeeper {
    /// Noted since the last change.
    young: Box<[u64]>,
    /// Noted before; forgotten at the next change.
    old: Box<[u64]>,
    /// In `young`.
    noted: usize,
    noted_max: usize,
}

impl Doorkeeper {
    fn new(entries: usize) -> Self {
        let noted_max = (entries / ENTRIES_PER_KEY).max(1);
        let words = (noted_max * BITS_PER_KEY).div_ceil(WORD_BITS).next_power_of_two();
        Self { young: vec![0; words].into(), old: vec![0; words].into(), noted: 0, noted_max }
    }

    /// Whether `key` is known; from now on it is.
    fn knows(&mut self, key: &CacheKey) -> bool {
        let (word, bit) = self.place(key);
        if self.young[word] & bit != 0 {
            return true;
        }
        let is_old = self.old[word] & bit != 0;
        self.young[word] |= bit;
        self.noted += 1;
        if self.noted == self.noted_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.fill(0);
            self.noted = 0;
        }
        is_old
    }

    fn place(&self, key: &CacheKey) -> (usize, u64) {
        let (places, _) = key.0[PLACE_OFFSET..].as_chunks::<4>();
        // As many bits of the digest as there are places, which is a power of two.
        let place = usize::try_from(u32::from_le_bytes(places[0])).unwrap_or_default();
        ((place / WORD_BITS) & (self.young.len() - 1), 1 << (place % WORD_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> CacheKey {
        CacheKey(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn who_comes_back_may_enter_and_who_comes_first_may_not() {
        let mut gate = Gate::new(Admission::Doorkeeper, 100);
        assert!(!gate.admits(&key(1)));
        assert!(gate.admits(&key(1)) && gate.admits(&key(1)));
        assert!(!gate.admits(&key(2)));
    }

    #[test]
    fn everybody_may_enter_a_plain_lru() {
        assert!(Gate::new(Admission::Lru, 100).admits(&key(1)));
    }

    #[test]
    fn half_as_many_keys_as_entries_are_remembered_and_never_more_than_as_many() {
        let after = |others: usize| {
            let mut doorkeeper = Doorkeeper::new(1000);
            doorkeeper.knows(&key(0));
            (1..=others).for_each(|number| {
                doorkeeper.knows(&key(number));
            });
            doorkeeper.knows(&key(0))
        };
        // A few of the others are taken for known and are not noted, so the ends are not quite sharp.
        assert!(after(490) && !after(1100));
    }

    #[test]
    fn few_are_let_in_by_chance() {
        let mut doorkeeper = Doorkeeper::new(10_000);
        let let_in = (0..100_000).filter(|number| doorkeeper.knows(&key(*number))).count();
        assert!(let_in < 100_000 / BITS_PER_KEY, "{let_in}");
    }

    #[test]
    fn it_takes_at_most_four_bytes_an_entry_but_for_a_few_words() {
        for entries in [0, 1, 64, 12_500, 200_000] {
            let doorkeeper = Doorkeeper::new(entries);
            let bytes = size_of_val(&*doorkeeper.young) + size_of_val(&*doorkeeper.old);
            assert!(bytes <= (4 * entries).max(64), "{bytes} for {entries}");
        }
    }
}

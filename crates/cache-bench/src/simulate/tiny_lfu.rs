//! LRU with the admission of TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy",
//! ACM Transactions on Storage 13(4), 2017): measured beside L1's own policies, and not one of them.
//!
//! ```text
//!  key ─▶ 4 counters of 4 bits ─▶ the least of them ─┬─ candidate's > victim's: the victim goes
//!         all halved once in a while                 └─ else: the candidate is not kept
//! ```

use lru::LruCache;

/// Counters of a key, each in a row of its own.
const ROWS: usize = 4;
/// Counters of a row for each entry: few keys then share one in all rows.
const COUNTERS_PER_ENTRY: usize = 4;
/// Bits of a counter, and how many lie in a word.
const COUNTER_BITS: usize = 4;
const COUNTERS_PER_WORD: usize = 64 / COUNTER_BITS;
const COUNTER_MAX: u64 = 15;
/// Every counter without its lowest bit, after a shift by one the halves of all.
const HALVED: u64 = 0x7777_7777_7777_7777;
/// Keys counted for each entry between two halvings: what was asked for long ago weighs less and less.
const SAMPLE_PER_ENTRY: usize = 10;
/// Where in a digest the row indices lie, behind what chooses the shard.
const DIGEST_OFFSET: usize = 8;

/// The cache, of entries that weigh the same.
pub(super) struct TinyLfu {
    entries: LruCache<[u8; 32], ()>,
    entries_max: usize,
    sketch: Sketch,
}

impl TinyLfu {
    /// An empty one.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: LruCache::unbounded(), entries_max, sketch: Sketch::new(entries_max) }
    }

    /// Whether it holds `key`; if not, it is given it.
    pub(super) fn ask(&mut self, key: &[u8; 32]) -> bool {
        self.sketch.count(key);
        if self.entries.get(key).is_some() {
            return true;
        }
        let victim = self.entries.peek_lru().filter(|_| self.entries.len() >= self.entries_max);
        match victim.map(|(victim, ())| self.sketch.frequency(key) > self.sketch.frequency(victim)) {
            Some(false) => return false,
            Some(true) => drop(self.entries.pop_lru()),
            None => {}
        }
        self.entries.put(*key, ());
        false
    }
}

/// A count-min sketch with conservative update: never less than the truth since the last halving, seldom more.
#[derive(Debug)]
struct Sketch {
    /// (rows × counters of a row), packed.
    words: Box<[u64]>,
    /// Counters of a row, a power of two.
    row: usize,
    /// Counted since the last halving.
    counted: usize,
    sample: usize,
}

impl Sketch {
    fn new(entries: usize) -> Self {
        let entries = entries.max(COUNTERS_PER_WORD);
        let row = (entries * COUNTERS_PER_ENTRY).next_power_of_two();
        let words = vec![0; ROWS * row / COUNTERS_PER_WORD].into();
        Self { words, row, counted: 0, sample: entries * SAMPLE_PER_ENTRY }
    }

    fn count(&mut self, key: &[u8; 32]) {
        let least = self.frequency(key);
        if least < COUNTER_MAX {
            for (word, shift) in self.places(key) {
                // The others are too high already, by keys that share them.
                if self.words[word] >> shift & COUNTER_MAX == least {
                    self.words[word] += 1 << shift;
                }
            }
        }
        self.counted += 1;
        if self.counted >= self.sample {
            self.halve();
        }
    }

    fn frequency(&self, key: &[u8; 32]) -> u64 {
        let counters = self.places(key).map(|(word, shift)| self.words[word] >> shift & COUNTER_MAX);
        counters.into_iter().min().unwrap_or_default()
    }

    fn halve(&mut self) {
        for word in &mut self.words {
            *word = *word >> 1 & HALVED;
        }
        self.counted /= 2;
    }

    /// The word and the shift of the counter in each row.
    fn places(&self, key: &[u8; 32]) -> [(usize, usize); ROWS] {
        let (indices, _) = key[DIGEST_OFFSET..].as_chunks::<4>();
        std::array::from_fn(|row| {
            // As many bits of the digest as a row has counters.
            let spread = usize::try_from(u32::from_le_bytes(indices[row])).unwrap_or_default();
            let counter = row * self.row + (spread & (self.row - 1));
            (counter / COUNTERS_PER_WORD, counter % COUNTERS_PER_WORD * COUNTER_BITS)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn only_who_is_asked_for_more_often_may_enter() {
        let mut cache = TinyLfu::new(1);
        assert!(!cache.ask(&key(1)) && cache.ask(&key(1)));
        assert!(!cache.ask(&key(2)) && !cache.ask(&key(2)), "as often is not more often");
        assert!(!cache.ask(&key(2)) && cache.ask(&key(2)) && !cache.ask(&key(1)));
    }

    #[test]
    fn counters_end_at_their_highest_and_are_halved() {
        let mut sketch = Sketch::new(100);
        (0..99).for_each(|_| sketch.count(&key(1)));
        assert_eq!(sketch.frequency(&key(1)), COUNTER_MAX);
        sketch.halve();
        assert_eq!(sketch.frequency(&key(1)), COUNTER_MAX / 2);
    }

    #[test]
    fn what_was_asked_for_long_ago_is_forgotten() {
        let mut sketch = Sketch::new(100);
        (0..15).for_each(|_| sketch.count(&key(1)));
        (2..6000).for_each(|number| sketch.count(&key(number)));
        assert!(sketch.frequency(&key(1)) <= 2, "{}", sketch.frequency(&key(1)));
    }

    #[test]
    fn sketch_takes_at_most_sixteen_bytes_an_entry() {
        for entries in [16, 100, 12_500, 200_000] {
            let bytes = Sketch::new(entries).words.len() * size_of::<u64>();
            assert!(bytes <= 16 * entries, "{bytes} for {entries}");
        }
    }

    proptest! {
        #[test]
        fn no_key_is_counted_too_low(numbers in proptest::collection::vec(0_u32..50, 0..150)) {
            let mut sketch = Sketch::new(16);
            let mut counts = [0_u64; 50];
            for number in numbers {
                sketch.count(&key(number));
                counts[number as usize] += 1;
            }
            for (number, count) in (0..).zip(counts) {
                prop_assert!(sketch.frequency(&key(number)) >= count.min(COUNTER_MAX));
            }
        }
    }
}

//! The keys of vectors that were pushed out, without the vectors: whoever comes back is known by them.

use lru::LruCache;

use crate::key::CacheKey;

/// Where in a digest the fingerprint lies, behind what chooses the shard.
const FINGERPRINT_OFFSET: usize = 8;

/// Fingerprints of 8 bytes, the oldest first: about 50 bytes each, with list node and table slot. Two keys that share one
/// are taken for each other; that costs nothing but a place.
#[derive(Debug)]
pub(super) struct Ghosts(LruCache<u64, ()>);

impl Default for Ghosts {
    fn default() -> Self {
        Self(LruCache::unbounded())
    }
}

impl Ghosts {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Remembers `key`.
    pub(super) fn note(&mut self, key: &CacheKey) {
        self.0.put(fingerprint(key), ());
    }

    /// Whether `key` is remembered; from now on it is not.
    pub(super) fn take(&mut self, key: &CacheKey) -> bool {
        self.0.pop(&fingerprint(key)).is_some()
    }

    /// Forgets the oldest, until there are no more than `count_max`.
    pub(super) fn forget_beyond(&mut self, count_max: usize) {
        while self.0.len() > count_max {
            self.0.pop_lru();
        }
    }
}

fn fingerprint(key: &CacheKey) -> u64 {
    let (words, _) = key.0[FINGERPRINT_OFFSET..].as_chunks::<8>();
    u64::from_le_bytes(words[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> CacheKey {
        CacheKey(*blake3::hash(&[number]).as_bytes())
    }

    #[test]
    fn who_comes_back_is_known_once() {
        let mut ghosts = Ghosts::default();
        ghosts.note(&key(1));
        assert!(!ghosts.take(&key(2)));
        assert!(ghosts.take(&key(1)) && !ghosts.take(&key(1)));
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut ghosts = Ghosts::default();
        (0..10).for_each(|number| ghosts.note(&key(number)));
        ghosts.forget_beyond(4);
        let known: Vec<u8> = (0..10).filter(|number| ghosts.take(&key(*number))).collect();
        assert_eq!(known, [6, 7, 8, 9]);
    }

    #[test]
    fn keys_of_one_shard_differ_in_their_fingerprints() {
        let of_one_shard = |number: u8| {
            let mut bytes = key(number).0;
            bytes[..FINGERPRINT_OFFSET].fill(7);
            CacheKey(bytes)
        };
        let mut ghosts = Ghosts::default();
        (0..100).for_each(|number| ghosts.note(&of_one_shard(number)));
        assert_eq!(ghosts.len(), 100);
    }
}

//! Keys and their vectors, both made from a number: whoever reads a vector can tell whether it is the right one.

use bytes::Bytes;

/// Numbers of a vector.
pub(crate) const WIDTH: usize = 768;
/// Bytes of a vector: float16.
pub(crate) const VECTOR_BYTES: usize = 2 * WIDTH;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Four float16 at a time without the highest bit of their exponents: all are finite, as cache-shard demands.
const FINITE: u64 = 0xbfff_bfff_bfff_bfff;

/// A key: the digest of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// What key and vector are made from.
    pub(crate) number: u64,
    /// As it is sent.
    pub(crate) digest: [u8; KEY_BYTES],
}

impl Key {
    /// The key of `number`.
    pub(crate) fn new(number: u64) -> Self {
        Self { number, digest: blake3::hash(&number.to_le_bytes()).into() }
    }

    /// The digest as a protocol of lines can carry it.
    pub(crate) fn hex(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its vector.
    pub(crate) fn vector(&self) -> Bytes {
        self.words().flat_map(u64::to_le_bytes).collect()
    }

    /// Whether `vector` is its vector, to the last bit.
    pub(crate) fn owns(&self, vector: &[u8]) -> bool {
        let (words, rest) = vector.as_chunks::<8>();
        let right = words.iter().zip(self.words()).all(|(found, word)| *found == word.to_le_bytes());
        right && rest.is_empty() && vector.len() == VECTOR_BYTES
    }

    /// Splitmix64, which takes a nanosecond a word: what is made here must not slow the loop down that it serves.
    fn words(&self) -> impl Iterator<Item = u64> {
        let mut state = self.number;
        (0..VECTOR_BYTES / size_of::<u64>()).map(move |_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) & FINITE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_owns_its_vector_and_no_other() {
        let (key, other) = (Key::new(1), Key::new(2));
        assert!(key.owns(&key.vector()) && !key.owns(&other.vector()));
        assert!(!key.owns(&key.vector()[1..]) && !key.owns(&[]));
        let mut damaged = key.vector().to_vec();
        damaged[VECTOR_BYTES - 1] ^= 1;
        assert!(!key.owns(&damaged));
    }

    #[test]
    fn every_number_of_a_vector_is_finite() {
        for number in [0, 1, u64::MAX] {
            let vector = Key::new(number).vector();
            let (halves, rest) = vector.as_chunks::<2>();
            let exponent = |half: &[u8; 2]| (u16::from_le_bytes(*half) >> 10) & 0x1f;
            assert!(rest.is_empty() && halves.iter().all(|half| exponent(half) != 0x1f));
        }
    }

    #[test]
    fn hex_has_two_digits_a_byte() {
        assert_eq!(Key::new(7).hex().len(), 2 * KEY_BYTES);
    }
}

//! What a vector is found by: a digest of everything that decides its value.
//!
//! ```text
//!  version ─ namespace ─ identity ─ prompt ─ truncation ─ tokens_max ─ text ──▶ BLAKE3 ──▶ 256 bits
//!  └───────────────── hashed once for a request ─────────────────┘
//! ```
//!
//! Each field goes in as tag, length, bytes, so that no two different lists of fields give the same input.
//! `dimensions` and `normalize` are not in it: the full vector is kept and finished for each request.

use std::fmt;

use protocol::inference::Truncation;

/// Raised when the meaning of a field changes; old vectors are then not found any more.
const KEY_VERSION: u32 = 1;

/// The key of one text under one model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CacheKey(pub(crate) [u8; 32]);

impl CacheKey {
    /// A number spread evenly over all keys, to choose a shard by.
    pub(crate) fn spread(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CacheKey({:016x}…)", self.spread())
    }
}

/// Everything but the text that decides a vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space<'a> {
    /// Namespace of the cache.
    pub(crate) namespace: &'a str,
    /// Identity of the model.
    pub(crate) identity: &'a str,
    /// Text put in front of each text.
    pub(crate) prompt: &'a str,
    /// What happens to a text over the limit.
    pub(crate) truncation: Truncation,
    /// That limit.
    pub(crate) tokens_max: u32,
}

/// Makes the keys of one request.
#[derive(Debug, Clone)]
pub(crate) struct Keys(blake3::Hasher);

impl Keys {
    /// Hashes what all texts of the request share.
    pub(crate) fn new(space: &Space<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b'v', &KEY_VERSION.to_le_bytes());
        field(&mut hasher, b'n', space.namespace.as_bytes());
        field(&mut hasher, b'i', space.identity.as_bytes());
        field(&mut hasher, b'p', space.prompt.as_bytes());
        field(&mut hasher, b'c', &[truncation_tag(space.truncation)]);
        field(&mut hasher, b'm', &space.tokens_max.to_le_bytes());
        Self(hasher)
    }

    /// The key of `text`.
    pub(crate) fn of(&self, text: &str) -> CacheKey {
        let mut hasher = self.0.clone();
        field(&mut hasher, b't', text.as_bytes());
        CacheKey(hasher.finalize().into())
    }
}

fn field(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

/// Cutting at the end is what an unspecified truncation means, so both have one tag.
fn truncation_tag(truncation: Truncation) -> u8 {
    match truncation {
        Truncation::Unspecified | Truncation::Right => 1,
        Truncation::Left => 2,
        Truncation::None => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPACE: Space<'_> = Space {
        namespace: "default",
        identity: "aa",
        prompt: "",
        truncation: Truncation::Right,
        tokens_max: 256,
    };

    #[test]
    fn any_field_changes_the_key() {
        let key = Keys::new(&SPACE).of("text");
        let others = [
            Keys::new(&SPACE).of("texts"),
            Keys::new(&Space { namespace: "other", ..SPACE }).of("text"),
            Keys::new(&Space { identity: "ab", ..SPACE }).of("text"),
            Keys::new(&Space { prompt: "query: ", ..SPACE }).of("text"),
            Keys::new(&Space { truncation: Truncation::Left, ..SPACE }).of("text"),
            Keys::new(&Space { truncation: Truncation::None, ..SPACE }).of("text"),
            Keys::new(&Space { tokens_max: 512, ..SPACE }).of("text"),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, key, "change {index}");
            assert!(!others[..index].contains(other), "change {index} repeats a key");
        }
    }

    #[test]
    fn key_is_the_same_in_every_build() {
        let hex: String = Keys::new(&SPACE).of("text").0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a3efe9cdada12f0d0ed23ec701535143aec4b19afaa6f29aed397390321e946d");
    }

    proptest! {
        #[test]
        fn boundaries_between_fields_cannot_be_shifted(
            all in "[a-c]{2,8}",
            cuts in proptest::array::uniform4(0_usize..=8),
        ) {
            let split = |at: usize| all.split_at(at.min(all.len()));
            let ((prompt_1, text_1), (prompt_2, text_2)) = (split(cuts[0]), split(cuts[1]));
            let key = |prompt, text| Keys::new(&Space { prompt, ..SPACE }).of(text);
            prop_assert_eq!(key(prompt_1, text_1) == key(prompt_2, text_2), prompt_1 == prompt_2);
            let ((namespace_1, identity_1), (namespace_2, identity_2)) = (split(cuts[2]), split(cuts[3]));
            let key = |namespace, identity| Keys::new(&Space { namespace, identity, ..SPACE }).of("text");
            prop_assert_eq!(key(namespace_1, identity_1) == key(namespace_2, identity_2), namespace_1 == namespace_2);
        }
    }
}

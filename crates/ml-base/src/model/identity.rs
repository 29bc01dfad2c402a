//! The identity of a model: all that defines its vector space, in 256 bits.

use std::fmt;

use super::digest::{Sha256, write_hex};
use super::{Case, Pooling};

/// Changes when the same model would get another identity by the same rules.
const FORMAT: u64 = 1;

/// Two models with the same identity give the same full-width pooled vector for the same tokens.
/// It is part of every cache key. Prints as 64 lower-case hex digits.
///
/// Truncation and prompts are not in it: the key carries them for each text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    /// The identity from the sums of the three files that matter, the pooling, and the case that texts are brought to.
    #[must_use]
    pub fn new(weights: Sha256, tokenizer: Sha256, config: Sha256, pooling: Pooling, case: Case) -> Self {
        let mut fields = Fields::default();
        fields.add("format", &FORMAT.to_le_bytes());
        fields.add("weights", weights.as_bytes());
        fields.add("tokenizer", tokenizer.as_bytes());
        fields.add("config", config.as_bytes());
        fields.add("pooling", pooling.name().as_bytes());
        match case {
            Case::AsGiven => {}
            Case::Lower => fields.add("case", b"lower"),
        }
        Self(fields.0.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Tagged and length-prefixed fields, so that no two lists of fields read as the same bytes.
#[derive(Default)]
struct Fields(blake3::Hasher);

impl Fields {
    fn add(&mut self, tag: &str, value: &[u8]) {
        for part in [tag.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_part_of_the_vector_space_changes_the_identity() {
        let [a, b] = [Sha256::of_bytes(b"a"), Sha256::of_bytes(b"b")];
        let identities = [
            Identity::new(a, a, a, Pooling::Mean, Case::AsGiven),
            Identity::new(b, a, a, Pooling::Mean, Case::AsGiven),
            Identity::new(a, b, a, Pooling::Mean, Case::AsGiven),
            Identity::new(a, a, b, Pooling::Mean, Case::AsGiven),
            Identity::new(a, a, a, Pooling::Cls, Case::AsGiven),
            Identity::new(a, a, a, Pooling::Mean, Case::Lower),
        ];
        assert_eq!(identities.iter().collect::<HashSet<_>>().len(), identities.len());
        assert_eq!(identities[0], Identity::new(a, a, a, Pooling::Mean, Case::AsGiven));
        assert_eq!(identities[0].to_string().len(), 64);
    }

    /// A change here orphans every cached vector: raise `FORMAT` if it is meant.
    #[test]
    fn identity_of_a_known_model_stays_what_it_was() {
        let sum = Sha256::of_bytes(b"");
        assert_eq!(
            Identity::new(sum, sum, sum, Pooling::Mean, Case::AsGiven).to_string(),
            "82df4e059a5716870d8817361bebc84b26a4066ad988cf12fd2b8b7976d90444"
        );
    }
}

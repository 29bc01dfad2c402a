//! The generation of each namespace: what makes forgetting one a matter of one number.
//!
//! ```text
//!  file `generations`:   sutra-cache-generations VERSION CRC32
//!                        COUNTER BASE
//!                        GENERATION NAMESPACE-IN-HEX       one line each, only where it differs from BASE
//! ```
//!
//! A record is of the generation its namespace had when it was written, and is gone once the namespace has another one.
//! Numbers are never used twice. If the file is lost, everything counts as cleared: a cache may forget, and what was
//! cleared must not come back.

use std::{collections::BTreeMap, str::Lines};

use super::{
    record::COUNTED_MAX,
    sealed::{self, BadFile},
};

/// The format this program writes and reads.
pub(super) const GENERATIONS_VERSION: u32 = 1;
pub(super) const FILE_NAME: &str = "generations";
const MAGIC: &str = "sutra-cache-generations";
/// Namespaces with a number of their own; one more and everything is cleared.
const NAMESPACES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generations {
    /// The highest number that was ever used.
    counter: u64,
    /// Of each namespace that has none of its own.
    base: u64,
    own: BTreeMap<String, u64>,
}

/// What a clear has cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleared {
    Namespace,
    Everything,
}

impl Default for Generations {
    fn default() -> Self {
        Self { counter: 1, base: 1, own: BTreeMap::new() }
    }
}

impl Generations {
    pub(super) fn of(&self, namespace: &str) -> u64 {
        self.own.get(namespace).copied().unwrap_or(self.base)
    }

    /// Gives `namespace` a number that nobody had.
    pub(super) fn advance(&mut self, namespace: &str) -> Cleared {
        if self.own.len() >= NAMESPACES_MAX && !self.own.contains_key(namespace) {
            self.advance_all();
            return Cleared::Everything;
        }
        self.counter += 1;
        self.own.insert(namespace.to_owned(), self.counter);
        Cleared::Namespace
    }

    /// Gives every namespace a number that nobody had.
    pub(super) fn advance_all(&mut self) {
        self.counter += 1;
        self.base = self.counter;
        self.own.clear();
    }

    /// A record says that `namespace` has had this number. True if that is news.
    pub(super) fn has_been(&mut self, namespace: &str, generation: u64) -> bool {
        self.counter = self.counter.max(generation);
        let is_news = generation > self.of(namespace);
        if is_news {
            self.own.insert(namespace.to_owned(), generation);
        }
        is_news
    }

    pub(super) fn encode(&self) -> String {
        let mut body = format!("{} {}\n", self.counter, self.base);
        for (namespace, generation) in &self.own {
            body.push_str(&format!("{generation} {}\n", sealed::hex(namespace.as_bytes())));
        }
        sealed::seal(MAGIC, GENERATIONS_VERSION, &body)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadFile> {
        let body = sealed::unseal(MAGIC, GENERATIONS_VERSION, bytes)?;
        Self::decode_lines(body.lines()).ok_or(BadFile::Damaged)
    }

    fn decode_lines(mut lines: Lines<'_>) -> Option<Self> {
        let (counter, base) = lines.next()?.split_once(' ')?;
        let (counter, base) = (counter.parse().ok()?, base.parse().ok()?);
        let own = lines.map(|line| {
            let (generation, hex) = line.split_once(' ')?;
            Some((String::from_utf8(sealed::unhex(hex)?).ok()?, generation.parse().ok()?))
        });
        let own: BTreeMap<_, _> = own.collect::<Option<_>>()?;
        // What counts on from other numbers comes to some that were used.
        let is_counted = counter <= COUNTED_MAX && own.values().chain([&base]).all(|known| *known <= counter);
        is_counted.then_some(Self { counter, base, own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Generations {
        let mut generations = Generations::default();
        generations.advance("a\nnew line");
        generations.advance("");
        generations
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Generations::decode(some().encode().as_bytes()), Ok(some()));
        for body in ["", "1\n", "1 1\n2\n", "1 1\n2 f\n", "1 x\n"] {
            let file = sealed::seal(MAGIC, GENERATIONS_VERSION, body);
            assert_eq!(Generations::decode(file.as_bytes()), Err(BadFile::Damaged), "{body:?}");
        }
    }

    #[test]
    fn numbers_from_which_counting_on_would_use_some_twice_are_damage() {
        let far = COUNTED_MAX + 1;
        for body in [format!("{far} 1\n"), "3 4\n".to_owned(), "3 1\n4 6e\n".to_owned()] {
            let file = sealed::seal(MAGIC, GENERATIONS_VERSION, &body);
            assert_eq!(Generations::decode(file.as_bytes()), Err(BadFile::Damaged), "{body:?}");
        }
    }

    #[test]
    fn no_number_is_used_twice() {
        let mut generations = some();
        let before = (generations.of("b"), generations.of(""));
        assert!(generations.has_been("b", 40) && !generations.has_been("b", 39));
        generations.advance("");
        assert_eq!((generations.of("b"), generations.of("")), (40, 41));
        generations.advance_all();
        assert_eq!((generations.of("b"), generations.of(""), before), (42, 42, (1, 3)));
    }

    #[test]
    fn one_namespace_too_many_clears_everything() {
        let mut generations = Generations::default();
        for number in 0..NAMESPACES_MAX {
            assert_eq!(generations.advance(&number.to_string()), Cleared::Namespace);
        }
        assert_eq!(generations.advance("3"), Cleared::Namespace);
        assert_eq!(generations.advance("another"), Cleared::Everything);
        assert_eq!(generations.of("3"), generations.of("another"));
    }
}

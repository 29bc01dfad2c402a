//! Which text is sent next.

use std::{
    borrow::Cow,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::{Rng, rngs::StdRng};

/// The workload as asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice {
    /// No text twice.
    Unique,
    /// Few texts again and again.
    Repeat {
        /// How many.
        distinct: NonZeroUsize,
    },
}

/// A source of texts, shared by all clients.
#[derive(Debug)]
pub(crate) struct Workload {
    texts: Vec<String>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// The next text, counted over all rounds through the file.
    Once(AtomicUsize),
    Drawn,
}

impl Workload {
    /// Sends `texts`, which must not be empty, as `choice` says.
    pub(crate) fn new(mut texts: Vec<String>, choice: Choice) -> Self {
        assert!(!texts.is_empty(), "a workload has at least one text");
        let order = match choice {
            Choice::Unique => Order::Once(AtomicUsize::new(0)),
            Choice::Repeat { distinct } => {
                texts.truncate(distinct.get());
                Order::Drawn
            }
        };
        Self { texts, order }
    }

    /// The next `count` texts.
    pub(crate) fn take(&self, count: NonZeroUsize, rng: &mut StdRng) -> Vec<Cow<'_, str>> {
        (0..count.get()).map(|_| self.next(rng)).collect()
    }

    fn next(&self, rng: &mut StdRng) -> Cow<'_, str> {
        match &self.order {
            Order::Drawn => Cow::Borrowed(&self.texts[rng.random_range(0..self.texts.len())]),
            Order::Once(next) => {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let text = &self.texts[index % self.texts.len()];
                match index / self.texts.len() {
                    0 => Cow::Borrowed(text),
                    round => Cow::Owned(format!("{text} #{round}")),
                }
            }
        }
    }

    /// The texts that every cache should hold before the measurement; none where nothing repeats.
    pub(crate) fn to_cache(&self) -> &[String] {
        match self.order {
            Order::Once(_) => &[],
            Order::Drawn => &self.texts,
        }
    }

    /// Texts it chooses from.
    pub(crate) fn distinct(&self) -> usize {
        self.texts.len()
    }

    /// Texts so far that came again, with a number appended, because the file was exhausted.
    pub(crate) fn reused(&self) -> usize {
        match &self.order {
            Order::Once(next) => next.load(Ordering::Relaxed).saturating_sub(self.texts.len()),
            Order::Drawn => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();

    fn three() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn unique_never_sends_a_text_twice_and_counts_what_it_reuses() {
        let workload = Workload::new(three(), Choice::Unique);
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(workload.take(FOUR, &mut rng), ["a", "b", "c", "a #1"]);
        assert_eq!(workload.take(FOUR, &mut rng), ["b #1", "c #1", "a #2", "b #2"]);
        assert_eq!(workload.reused(), 5);
        assert!(workload.to_cache().is_empty());
    }

    #[test]
    fn repeat_draws_only_from_the_first_and_the_same_for_a_seed() {
        let two = NonZeroUsize::new(2).unwrap();
        let workload = Workload::new(three(), Choice::Repeat { distinct: two });
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..20).flat_map(|_| workload.take(FOUR, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(7).into_iter().collect::<HashSet<_>>(), HashSet::from(["a".into(), "b".into()]));
        assert_eq!(workload.to_cache(), ["a", "b"]);
    }
}

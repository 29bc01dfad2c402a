//! Which keys are asked for: seeded, so that every engine is asked for the same ones in the same order.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Keys that no turn has seen yet are told apart by turn and client in the bits above these.
const FRESH_BITS: u32 = 32;

/// The keys of one client, without an end.
#[derive(Debug)]
pub(crate) enum Draws {
    /// So many of a hundred are there already, the others are new.
    Mix {
        /// Source of the draws.
        rng: StdRng,
        /// Keys below this number are there.
        filled: u64,
        /// Of a hundred keys, those that are there.
        hits_percent: u8,
        /// The next number that nobody has asked for.
        fresh: u64,
    },
    /// A few keys are asked for often, most hardly ever.
    Zipf {
        /// Source of the draws.
        rng: StdRng,
        /// How often each.
        zipf: Arc<Zipf>,
    },
}

impl Draws {
    /// Of a hundred keys `hits_percent` are below `filled`; `turn` and `client` decide which they are.
    pub(crate) fn mix(filled: u64, hits_percent: u8, seed: u64, turn: u64, client: u64) -> Self {
        let stream = (turn << 16) | client;
        let fresh = filled + ((stream + 1) << FRESH_BITS);
        Self::Mix { rng: StdRng::seed_from_u64(seed ^ stream.rotate_right(16)), filled, hits_percent, fresh }
    }

    /// Draws from `zipf`.
    pub(crate) fn zipf(zipf: Arc<Zipf>, seed: u64, client: u64) -> Self {
        Self::Zipf { rng: StdRng::seed_from_u64(seed ^ client.rotate_right(16)), zipf }
    }

    /// The number of the next key.
    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::Mix { rng, filled, hits_percent, fresh } => {
                if *filled > 0 && rng.random_range(0..100) < *hits_percent {
                    return rng.random_range(0..*filled);
                }
                *fresh += 1;
                *fresh
            }
            Self::Zipf { rng, zipf } => zipf.draw(rng),
        }
    }
}

/// A Zipf distribution over ranks from 0: the key of rank r is asked for in proportion to (r + 1) to the power of -s.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// The probability of a rank up to each one, without the division by the last.
    cumulated: Box<[f64]>,
}

impl Zipf {
    /// Over `count` ranks, at least one, with exponent `exponent`.
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=count.max(1)).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    /// A rank.
    pub(crate) fn draw(&self, rng: &mut StdRng) -> u64 {
        let whole = self.cumulated.last().copied().unwrap_or_default();
        let at = rng.random::<f64>() * whole;
        let rank = self.cumulated.partition_point(|sum| *sum <= at);
        rank.min(self.cumulated.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_first_ranks_are_those_of_the_formula() {
        let (zipf, mut rng) = (Zipf::new(1000, 1.0), StdRng::seed_from_u64(1));
        let mut counts = [0_u32; 1000];
        for _ in 0..100_000 {
            counts[usize::try_from(zipf.draw(&mut rng)).unwrap()] += 1;
        }
        // The sum of 1/r up to 1000 is 7.485.
        assert!((f64::from(counts[0]) / 100_000.0 - 1.0 / 7.485).abs() < 0.01);
        assert!((f64::from(counts[0]) / f64::from(counts[1]) - 2.0).abs() < 0.2);
    }

    #[test]
    fn mix_has_its_share_of_hits_and_no_new_key_comes_twice() {
        let mut draws = Draws::mix(50, 90, 1, 0, 0);
        let numbers: Vec<u64> = (0..10_000).map(|_| draws.next()).collect();
        let mut fresh: Vec<u64> = numbers.into_iter().filter(|number| *number >= 50).collect();
        assert!((900..1100).contains(&fresh.len()), "{}", fresh.len());
        let mut others = Draws::mix(50, 0, 1, 0, 1);
        fresh.extend((0..1000).map(|_| others.next()));
        let count = fresh.len();
        fresh.sort_unstable();
        fresh.dedup();
        assert_eq!(fresh.len(), count);
    }

    #[test]
    fn same_seed_gives_the_same_keys() {
        let draw = |seed| {
            let mut draws = Draws::zipf(Arc::new(Zipf::new(100, 0.9)), seed, 3);
            (0..50).map(|_| draws.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

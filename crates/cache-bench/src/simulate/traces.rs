//! What L1 is asked for: seeded traces, each of a kind of traffic that is its own trouble.
//!
//! `room` is the number of vectors a cache has room for; what a trace asks for is a multiple of it.

use std::{collections::VecDeque, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::draws::Zipf;

/// Texts asked for again and again, by the vectors there is room for.
const UNIVERSE: usize = 16;
/// Documents of a scan, by the vectors there is room for.
const SCAN: u64 = 5;
/// Part of a trace from one scan to the next.
const SCANS: usize = 4;
/// Keys asked for until the next text becomes the most popular one, while popularity drifts.
const DRIFT_EVERY: usize = 50;

/// Companies of the plan's financial case, what is known of each on a day, and days from the first to the last.
const COMPANIES: usize = 500;
const FACTS: u64 = 20;
const DAYS: u64 = 60;
/// A share of hits that the plan expects of each kind of text decides how much of it repeats.
const SYSTEM_CONCEPTS: u64 = 500;
const QUESTIONS: usize = 20_000;

/// Above these bits lies the kind of a text, so that none is of two kinds.
const KIND_BITS: u32 = 48;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// Nearly even popularity.
    Zipf07,
    /// As caches of the web see it.
    Zipf09,
    /// A few texts are nearly all.
    Zipf11,
    /// Zipf 0.9, and a job beside it that embeds all documents again and again.
    Scans,
    /// Zipf 0.9 over texts that age: a new one is the most popular.
    Drift,
    /// Zipf 0.9, and as many texts that are never asked for again.
    OneHits,
    /// Facts about companies, questions about them, and concepts of the system, as the plan describes them.
    Financial,
}

impl Trace {
    /// All of them.
    pub(super) const ALL: [Self; 7] =
        [Self::Zipf07, Self::Zipf09, Self::Zipf11, Self::Scans, Self::Drift, Self::OneHits, Self::Financial];

    /// As tables call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zipf07 => "Zipf 0.7",
            Self::Zipf09 => "Zipf 0.9",
            Self::Zipf11 => "Zipf 1.1",
            Self::Scans => "Zipf 0.9 beside scans",
            Self::Drift => "Zipf 0.9 that drifts",
            Self::OneHits => "Zipf 0.9, half asked once",
            Self::Financial => "financial, as planned",
        }
    }

    /// The numbers of `count` keys.
    pub(super) fn numbers(self, count: usize, room: usize, seed: u64) -> Vec<u64> {
        let rng = StdRng::seed_from_u64(seed);
        match self {
            Self::Zipf07 => zipf(0.7, count, room, rng),
            Self::Zipf09 => zipf(0.9, count, room, rng),
            Self::Zipf11 => zipf(1.1, count, room, rng),
            Self::Scans => scans(count, room, rng),
            Self::Drift => drift(count, room, rng),
            Self::OneHits => one_hits(count, room, rng),
            Self::Financial => financial(count, rng),
        }
    }
}

fn zipf(exponent: f64, count: usize, room: usize, mut rng: StdRng) -> Vec<u64> {
    let zipf = Zipf::new(UNIVERSE * room, exponent);
    (0..count).map(|_| zipf.draw(&mut rng)).collect()
}

/// While a scan runs, every second key is one of its documents; the documents are the same in every scan.
fn scans(count: usize, room: usize, mut rng: StdRng) -> Vec<u64> {
    let zipf = Zipf::new(UNIVERSE * room, 0.9);
    let mut left: VecDeque<u64> = VecDeque::new();
    let numbers = (0..count).map(|at| {
        if at % (count / SCANS).max(1) == 0 {
            left = (0..SCAN * room as u64).map(|document| kind(1) | document).collect();
        }
        let document = if at % 2 == 1 { left.pop_front() } else { None };
        document.unwrap_or_else(|| zipf.draw(&mut rng))
    });
    numbers.collect()
}

/// The text of rank 0 is the newest; each falls by a rank whenever one comes.
fn drift(count: usize, room: usize, mut rng: StdRng) -> Vec<u64> {
    let universe = UNIVERSE * room;
    let zipf = Zipf::new(universe, 0.9);
    (0..count).map(|at| (universe + at / DRIFT_EVERY) as u64 - zipf.draw(&mut rng)).collect()
}

fn one_hits(count: usize, room: usize, mut rng: StdRng) -> Vec<u64> {
    let zipf = Zipf::new(UNIVERSE * room, 0.9);
    let one = |at: usize| if at.is_multiple_of(2) { zipf.draw(&mut rng) } else { kind(1) | at as u64 };
    (0..count).map(one).collect()
}

/// Half of all are facts about companies, learnt on their day and asked for on the next ones; three of ten are questions
/// of users, half of them similar ones; two of ten are concepts of the system, few of them new.
fn financial(count: usize, mut rng: StdRng) -> Vec<u64> {
    let companies = Arc::new(Zipf::new(COMPANIES, 0.9));
    let questions = Zipf::new(QUESTIONS, 0.9);
    let numbers = (0..count).map(|at| {
        let today = at as u64 * DAYS / count as u64;
        match rng.random_range(0..10) {
            0..5 => fact(&companies, today, &mut rng),
            5..8 if rng.random_bool(0.5) => kind(2) | questions.draw(&mut rng),
            5..8 => kind(3) | at as u64,
            _ if rng.random_bool(0.9) => kind(4) | rng.random_range(0..SYSTEM_CONCEPTS),
            _ => kind(5) | at as u64,
        }
    });
    numbers.collect()
}

/// "Apple Inc (AAPL) stock price $150 on 2025-11-08": a company, what it says, and a day, which is mostly a recent one.
fn fact(companies: &Zipf, today: u64, rng: &mut StdRng) -> u64 {
    let mut age = 0;
    while age < today && rng.random_bool(0.5) {
        age += 1;
    }
    let company = companies.draw(rng);
    kind(1) | ((company * FACTS + rng.random_range(0..FACTS)) * DAYS + (today - age))
}

fn kind(number: u64) -> u64 {
    number << KIND_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn traces_have_the_length_asked_for_and_repeat_with_their_seed() {
        for trace in Trace::ALL {
            let numbers = trace.numbers(1000, 50, 1);
            assert_eq!(numbers.len(), 1000);
            assert_eq!(numbers, trace.numbers(1000, 50, 1), "{}", trace.name());
            assert_ne!(numbers, trace.numbers(1000, 50, 2), "{}", trace.name());
        }
    }

    #[test]
    fn a_scan_meets_every_document_once() {
        let numbers = Trace::Scans.numbers(8000, 100, 1);
        let mut documents: Vec<u64> =
            numbers[..2000].iter().copied().filter(|number| *number >= kind(1)).collect();
        documents.dedup();
        assert_eq!(documents, (0..500).map(|document| kind(1) | document).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_of_the_one_hits_never_comes_again() {
        let numbers = Trace::OneHits.numbers(2000, 100, 1);
        let once: Vec<u64> = numbers.into_iter().filter(|number| *number >= kind(1)).collect();
        assert_eq!(once.iter().collect::<HashSet<_>>().len(), once.len());
        assert_eq!(once.len(), 1000);
    }

    #[test]
    fn what_is_new_is_most_popular_while_popularity_drifts() {
        let numbers = Trace::Drift.numbers(20_000, 100, 1);
        let newest = |at: usize| (UNIVERSE * 100 + at / DRIFT_EVERY) as u64;
        let hits = numbers.iter().enumerate().filter(|(at, number)| **number == newest(*at)).count();
        assert!(hits > 20_000 / 20, "{hits}");
    }
}

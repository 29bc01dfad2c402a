//! Which shard owns a key: the one that draws the highest number for it.
//!
//! ```text
//!  name of a shard ── BLAKE3, first 64 bits ─▶ seed ─┐
//!  key ────────────── its first 64 bits ─────────────┴─ xor ─▶ mixed ─▶ number; the highest owns the key
//! ```
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998), with the mixer of
//! `SplitMix64` (Stafford's variant 13; Steele, Lea and Flood, 2014). A shard's number for a key depends on no other shard,
//! so one that joins takes only the keys for which it draws highest, about 1/N of them, and who draws highest without it
//! owned them before; one that leaves gives away its own and no others.
//!
//! Invariant: every proxy and every version draws the same numbers. The tests pin some: another function would move every
//! key at once.

use crate::key::CacheKey;

/// The seeds of some shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendezvous(Vec<u64>);

impl Rendezvous {
    /// Of the shards with these names, which their order does not matter for.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(seed).collect())
    }

    /// Who draws highest for `key` of those that `may` own it, by their indices; none where none may.
    pub(super) fn highest(&self, key: &CacheKey, may: impl Fn(usize) -> bool) -> Option<usize> {
        let key = key.spread();
        let drawn = self.0.iter().enumerate().filter(|(index, _)| may(*index));
        // Equal seeds draw equal numbers, and only names that are equal have them.
        drawn.map(|(index, seed)| (mix(seed ^ key), index)).max().map(|(_, index)| index)
    }
}

fn seed(name: &str) -> u64 {
    CacheKey(*blake3::hash(name.as_bytes()).as_bytes()).spread()
}

/// Spreads every bit over all bits; no two numbers give the same.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 100_000;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("10.0.0.{number}:50052")).collect()
    }

    fn of(names: &[String]) -> Rendezvous {
        Rendezvous::new(names.iter().map(String::as_str))
    }

    fn key(number: u64) -> CacheKey {
        CacheKey(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn first_and_second(rendezvous: &Rendezvous, number: u64) -> (usize, usize) {
        let first = rendezvous.highest(&key(number), |_| true).unwrap();
        (first, rendezvous.highest(&key(number), |index| index != first).unwrap())
    }

    /// The names of the first and the second for each key.
    fn owners(names: &[String]) -> Vec<[&str; 2]> {
        let rendezvous = of(names);
        let ranked = (0..KEYS).map(|number| first_and_second(&rendezvous, number));
        ranked.map(|(first, second)| [first, second].map(|index| &*names[index])).collect()
    }

    #[test]
    fn mixer_is_that_of_splitmix64() {
        // The first numbers of SplitMix64 from the seed 0, as Vigna's own program prints them.
        let golden_ratio = 0x9e37_79b9_7f4a_7c15_u64;
        let drawn: Vec<_> = (1..=3).map(|step| mix(golden_ratio.wrapping_mul(step))).collect();
        assert_eq!(drawn, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn owners_are_the_same_in_every_build() {
        assert_eq!(format!("{:016x}", seed("10.0.0.0:50052")), "4e3f3857863b8d9b");
        let rendezvous = of(&names(5));
        let pinned: Vec<_> = (0..16).map(|number| first_and_second(&rendezvous, number)).collect();
        assert_eq!(
            pinned,
            [
                (3, 0),
                (0, 3),
                (1, 2),
                (0, 4),
                (3, 0),
                (4, 2),
                (2, 1),
                (3, 4),
                (3, 4),
                (4, 3),
                (0, 3),
                (2, 0),
                (3, 0),
                (2, 0),
                (1, 2),
                (2, 4)
            ]
        );
    }

    #[test]
    fn keys_spread_evenly() {
        for count in [2, 3, 7, 16, 64] {
            let names = names(count);
            let rendezvous = of(&names);
            let mut owned = vec![0_u64; count];
            (0..KEYS).for_each(|number| owned[rendezvous.highest(&key(number), |_| true).unwrap()] += 1);
            let share = KEYS as f64 / count as f64;
            // Five standard deviations of fair draws.
            let tolerance = 5.0 * share.sqrt();
            for (index, owned) in owned.iter().enumerate() {
                assert!((*owned as f64 - share).abs() < tolerance, "{count} shards, {index} has {owned}");
            }
        }
    }

    #[test]
    fn a_shard_that_joins_takes_its_part_from_those_that_rank_second_then_and_moves_no_other_key() {
        let after = names(5);
        let (before, after) = (owners(&after[..4]), owners(&after));
        let new = "10.0.0.4:50052";
        let moved = before.iter().zip(&after).filter(|(before, after)| before[0] != after[0]);
        let moved: Vec<_> = moved.collect();
        assert!(moved.iter().all(|([owner, _], [first, second])| *first == new && second == owner));
        let share = moved.len() as f64 * 5.0 / KEYS as f64;
        assert!((0.95..1.05).contains(&share), "{} keys moved", moved.len());
    }

    #[test]
    fn a_shard_that_leaves_moves_only_its_own_keys_to_those_that_ranked_second() {
        let all = names(5);
        let rest: Vec<_> = all.iter().filter(|name| *name != "10.0.0.2:50052").cloned().collect();
        for (before, after) in owners(&all).iter().zip(owners(&rest)) {
            let stays = before[0] != "10.0.0.2:50052";
            assert_eq!(after[0], if stays { before[0] } else { before[1] });
        }
    }

    #[test]
    fn order_of_the_list_does_not_matter() {
        let names = names(7);
        let backwards: Vec<_> = names.iter().rev().cloned().collect();
        assert_eq!(owners(&names), owners(&backwards));
    }

    #[test]
    fn one_shard_owns_everything_and_none_nothing() {
        assert_eq!(of(&names(1)).highest(&key(1), |_| true), Some(0));
        assert_eq!(of(&[]).highest(&key(1), |_| true), None);
    }
}

//! Attention over packed texts of random lengths.

use kernels::{Activations, Heads, RelativeBias, Scratch, Tier, attention};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

/// What the kernel makes of `qkv` `(tokens, 3 · hidden)`.
fn attend(tier: Tier, qkv: &[f32], lengths: &[usize], heads: Heads<'_>) -> Vec<f32> {
    let hidden = heads.count * heads.width;
    let tokens = lengths.iter().sum();
    let mut input = Activations::new(tier, tokens, 3 * hidden);
    input.fill(qkv, 3 * hidden);
    let mut out = Activations::new(tier, tokens, hidden);
    let longest = lengths.iter().copied().max().unwrap_or(0);
    attention(&input, lengths, heads, &mut out, &mut Scratch::new(tier, longest, heads.width));
    out.to_rows()
}

fn check(tier: Tier, lengths: &[usize], heads: Heads<'_>, seed: u64) -> Result<(), TestCaseError> {
    check_with(tier, lengths, heads, |_, _, _| 0.0, seed)
}

/// The same where `heads` have a bias, which is `bias(head, query, key)`.
fn check_with(
    tier: Tier,
    lengths: &[usize],
    heads: Heads<'_>,
    bias: impl Fn(usize, usize, usize) -> f64,
    seed: u64,
) -> Result<(), TestCaseError> {
    let stride = 3 * heads.count * heads.width;
    // Scores of some size, so that softmax is not flat.
    let qkv: Vec<f32> =
        twin::random(seed, lengths.iter().sum::<usize>() * stride).iter().map(|value| 2.0 * value).collect();
    let found = attend(tier, &qkv, lengths, heads);
    let rounded = twin::rounded(tier, &qkv);
    let mut texts = rounded.as_slice();
    let mut expected = Vec::new();
    for tokens in lengths {
        let (text, rest) = texts.split_at(tokens * stride);
        expected.extend(twin::attention(text, &heads, &bias));
        texts = rest;
    }
    // Values are at most 2: weights and results are each rounded once, and f32 does the rest. A score may be off by some of its
    // own steps, and with it the weights.
    let off =
        f64::from(heads.scale) * (heads.width as f64).sqrt() * twin::half_step_of_score(tier, heads.width);
    let tolerance = 2.0 * 2.0 * (twin::half_step(tier) + off) + 1e-5;
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        prop_assert!(difference <= tolerance, "{} {lengths:?} {place}: {found}, not {expected}", tier.name());
    }
    Ok(())
}

fn heads() -> impl Strategy<Value = Heads<'static>> {
    prop_oneof![Just(Heads::new(3, 32)), Just(Heads::new(2, 64)), Just(Heads::new(1, 96))]
}

proptest! {
    #[test]
    fn attention_is_that_of_the_twin(
        lengths in prop::collection::vec(0_usize..70, 1..5), heads in heads(), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("attention_is_that_of_the_twin") {
            check(tier, &lengths, heads, seed)?;
        }
    }

    /// Some scaled scores are beyond what a power of two can be without the largest subtracted.
    #[test]
    fn scores_too_large_for_powers_are_right(
        lengths in prop::collection::vec(1_usize..70, 1..4), heads in heads(), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("scores_too_large_for_powers_are_right").into_iter().filter(|tier| tier.rounds_to_bfloat16()) {
            check(tier, &lengths, Heads { scale: 4.0, ..heads }, seed)?;
        }
    }

    #[test]
    fn text_does_not_see_its_neighbours(
        lengths in prop::collection::vec(1_usize..50, 2..5), heads in heads(), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("text_does_not_see_its_neighbours") {
            let stride = 3 * heads.count * heads.width;
            let hidden = stride / 3;
            let mut qkv = twin::random(seed, lengths.iter().sum::<usize>() * stride);
            let alone = attend(tier, &qkv[..lengths[0] * stride], &lengths[..1], heads);
            qkv[lengths[0] * stride..].fill(f32::NAN);
            let together = attend(tier, &qkv, &lengths, heads);
            prop_assert_eq!(&alone[..], &together[..lengths[0] * hidden]);
            prop_assert!(together[lengths[0] * hidden..].iter().all(|value| value.is_nan()));
        }
    }

    /// Large scores are computed in another way, with other roundings: only those of the text itself may decide on that.
    #[test]
    fn large_scores_of_neighbours_change_no_bit(
        lengths in prop::array::uniform3(1_usize..50), heads in heads(), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("large_scores_of_neighbours_change_no_bit") {
            let stride = 3 * heads.count * heads.width;
            let hidden = stride / 3;
            let [start, end] = [lengths[0], lengths[0] + lengths[1]];
            let mut qkv = twin::random(seed, lengths.iter().sum::<usize>() * stride);
            let alone = attend(tier, &qkv[start * stride..end * stride], &lengths[1..2], heads);
            let (before, rest) = qkv.split_at_mut(start * stride);
            let after = &mut rest[lengths[1] * stride..];
            before.iter_mut().chain(after).for_each(|value| *value *= 64.0);
            let together = attend(tier, &qkv, &lengths, heads);
            prop_assert_eq!(&alone[..], &together[start * hidden..end * hidden]);
        }
    }

    /// A query with a large score, or none, is computed in another way with those beside it, in the midst of all others.
    #[test]
    fn large_scores_of_a_query_change_no_bit_of_queries_that_are_not_beside_it(
        tokens in 1_usize..120, loud in 0_usize..120, factor in prop_oneof![Just(1024.0_f32), Just(f32::NAN)],
        heads in heads(), seed in 0_u64..1 << 32
    ) {
        /// Queries that a tier computes at once, at most.
        const GROUP_MAX: usize = 16;
        for tier in tiers("large_scores_of_a_query_change_no_bit_of_queries_that_are_not_beside_it") {
            let hidden = heads.count * heads.width;
            let loud = loud % tokens;
            let mut qkv = twin::random(seed, tokens * 3 * hidden);
            let quiet = attend(tier, &qkv, &[tokens], heads);
            qkv[loud * 3 * hidden..][..hidden].iter_mut().for_each(|value| *value *= factor);
            let found = attend(tier, &qkv, &[tokens], heads);
            let rows = quiet.chunks_exact(hidden).zip(found.chunks_exact(hidden)).enumerate();
            for (query, (quiet, found)) in rows.filter(|(query, _)| query.abs_diff(loud) >= GROUP_MAX) {
                prop_assert_eq!(quiet, found, "{} query {}", tier.name(), query);
            }
            let is_nan = found[loud * hidden..][..hidden].iter().all(|value| value.is_nan());
            prop_assert_eq!(is_nan, factor.is_nan());
        }
    }
}

proptest! {
    #[test]
    fn token_sees_its_window_and_no_further(
        lengths in prop::collection::vec(0_usize..150, 1..3), heads in heads(), window in 0_usize..100,
        seed in 0_u64..1 << 32
    ) {
        for tier in tiers("token_sees_its_window_and_no_further") {
            check(tier, &lengths, Heads { window: Some(window), ..heads }, seed)?;
        }
    }

    #[test]
    fn scale_and_bias_go_into_the_scores(
        lengths in prop::collection::vec(1_usize..70, 1..4), heads in heads(), scale in 0.05_f32..0.4,
        window in prop::option::of(0_usize..40), seed in 0_u64..1 << 32
    ) {
        for tier in tiers("scale_and_bias_go_into_the_scores") {
            let of = |head: usize, distance: isize| (distance * 7 + head.cast_signed() * 3).rem_euclid(11) as f32 / 4.0;
            let bias = RelativeBias::new(heads.count, 70, scale, of);
            let heads = Heads { scale, window, bias: Some(&bias), ..heads };
            let of = |head, query: usize, key: usize| f64::from(of(head, key.cast_signed() - query.cast_signed()));
            check_with(tier, &lengths, heads, of, seed)?;
        }
    }
}

#[test]
fn texts_of_thousands_of_tokens_are_right_with_a_window_and_without() {
    for tier in tiers("texts_of_thousands_of_tokens_are_right_with_a_window_and_without") {
        let heads = Heads::new(1, 64);
        check(tier, &[2049], heads, 5).unwrap();
        check(tier, &[2049], Heads { window: Some(64), ..heads }, 6).unwrap();
    }
}

#[test]
#[should_panic(expected = "text of 3 tokens, bias is for 2")]
fn text_longer_than_the_bias_panics() {
    let bias = RelativeBias::new(1, 2, 1.0, |_, _| 0.0);
    let heads = Heads { bias: Some(&bias), ..Heads::new(1, 32) };
    attend(Tier::detect(), &[0.0; 3 * 96], &[3], heads);
}

#[test]
fn texts_of_a_tile_and_one_more_and_of_512_tokens_are_right() {
    for tier in tiers("texts_of_a_tile_and_one_more_and_of_512_tokens_are_right") {
        for lengths in [[1, 2], [16, 17], [32, 33], [128, 512], [31, 511]] {
            check(tier, &lengths, Heads::new(1, 32), 7).unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "text of 40 tokens")]
fn text_longer_than_the_scratch_panics() {
    let tier = Tier::detect();
    let heads = Heads::new(1, 32);
    let mut qkv = Activations::new(tier, 40, 96);
    qkv.reshape(40, 96);
    let mut out = Activations::new(tier, 40, 32);
    attention(&qkv, &[40], heads, &mut out, &mut Scratch::new(tier, 32, 32));
}

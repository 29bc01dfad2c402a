//! Attention over packed texts of random lengths.

use kernels::{Activations, Heads, Scratch, Tier, attention};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

/// What the kernel makes of `qkv` `(tokens, 3 · hidden)`.
fn attend(tier: Tier, qkv: &[f32], lengths: &[usize], heads: Heads) -> Vec<f32> {
    let hidden = heads.count * heads.width;
    let tokens = lengths.iter().sum();
    let mut input = Activations::new(tier, tokens, 3 * hidden);
    input.fill(qkv, 3 * hidden);
    let mut out = Activations::new(tier, tokens, hidden);
    let longest = lengths.iter().copied().max().unwrap_or(0);
    attention(&input, lengths, heads, &mut out, &mut Scratch::new(tier, longest, heads.width));
    out.to_rows()
}

fn check(tier: Tier, lengths: &[usize], heads: Heads, seed: u64) -> Result<(), TestCaseError> {
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
        expected.extend(twin::attention(text, heads.count, heads.width));
        texts = rest;
    }
    // Values are at most 2: weights and results are each rounded once, and f32 does the rest.
    let tolerance = 2.0 * 2.0 * twin::half_step(tier) + 1e-5;
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        prop_assert!(difference <= tolerance, "{} {lengths:?} {place}: {found}, not {expected}", tier.name());
    }
    Ok(())
}

fn heads() -> impl Strategy<Value = Heads> {
    prop_oneof![
        Just(Heads { count: 3, width: 32 }),
        Just(Heads { count: 2, width: 64 }),
        Just(Heads { count: 1, width: 96 })
    ]
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
}

#[test]
fn texts_of_a_tile_and_one_more_and_of_512_tokens_are_right() {
    for tier in tiers("texts_of_a_tile_and_one_more_and_of_512_tokens_are_right") {
        for lengths in [[1, 2], [16, 17], [32, 33], [128, 512], [31, 511]] {
            check(tier, &lengths, Heads { count: 1, width: 32 }, 7).unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "text of 40 tokens")]
fn text_longer_than_the_scratch_panics() {
    let tier = Tier::detect();
    let heads = Heads { count: 1, width: 32 };
    let mut qkv = Activations::new(tier, 40, 96);
    qkv.reshape(40, 96);
    let mut out = Activations::new(tier, 40, 32);
    attention(&qkv, &[40], heads, &mut out, &mut Scratch::new(tier, 32, 32));
}

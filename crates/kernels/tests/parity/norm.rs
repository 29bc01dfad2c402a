//! Layer norms of random widths.

use kernels::{Activations, LayerNorm, Scratch};
use proptest::prelude::*;

use super::tiers::tiers;
use super::twin;

proptest! {
    #[test]
    fn norm_is_that_of_the_twin(rows in 1_usize..20, width in 2_usize..200, seed in 0_u64..1 << 32) {
        for tier in tiers("norm_is_that_of_the_twin") {
            let (scale, shift) = (twin::random(seed + 1, width), twin::random(seed + 2, width));
            let before = twin::random(seed, rows * width);
            let mut values = before.clone();
            let mut copy = Activations::new(tier, rows, width);
            LayerNorm::new(&scale, &shift, 1e-3).apply(&mut values, &mut copy, &mut Scratch::new(tier, 1, 32));
            for (row, (before, after)) in before.chunks(width).zip(values.chunks(width)).enumerate() {
                let mean = before.iter().copied().map(f64::from).sum::<f64>() / width as f64;
                let squares = before.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
                let deviation = (squares / width as f64 + 1e-3).sqrt();
                for column in 0..width {
                    let normal = (f64::from(before[column]) - mean) / deviation;
                    let expected = normal * f64::from(scale[column]) + f64::from(shift[column]);
                    // Values of size one, a deviation of at least 0.03, and some roundings of f32 on the way.
                    prop_assert!((f64::from(after[column]) - expected).abs() < 2e-5, "{row} {column}");
                }
            }
            let mut apart = Activations::new(tier, rows, width);
            LayerNorm::new(&scale, &shift, 1e-3).copy(&before, &mut apart, &mut Scratch::new(tier, 1, 32));
            prop_assert_eq!(apart.to_rows(), copy.to_rows());
            for (copied, value) in copy.to_rows().iter().zip(&values) {
                prop_assert!((copied - value).abs() <= value.abs() / 256.0);
            }
        }
    }
}

#[test]
fn nan_spoils_its_row_and_no_other() {
    for tier in tiers("nan_spoils_its_row_and_no_other") {
        let mut values = twin::random(1, 3 * 50);
        values[70] = f32::NAN;
        let mut copy = Activations::new(tier, 3, 50);
        LayerNorm::new(&[1.0; 50], &[0.0; 50], 1e-5).apply(
            &mut values,
            &mut copy,
            &mut Scratch::new(tier, 1, 32),
        );
        for (row, values) in values.chunks(50).chain(copy.to_rows().chunks(50)).enumerate() {
            assert_eq!(values.iter().all(|value| value.is_nan()), row % 3 == 1, "row {row}");
        }
    }
}

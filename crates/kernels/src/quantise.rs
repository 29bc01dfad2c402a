//! Rows of activations as int8, with a scale for each row.
//!
//! ```text
//!  row x ─▶ largest size m ─▶ scale m / 127 ─▶ q = round(x · 127 / m), a whole number in -127 ..= 127
//! ```
//! Dynamic and symmetric: nothing is calibrated, and zero stays zero. Sizes are compared as patterns of bits, in whose
//! order infinity and NaN are larger than any number, so that one comparison finds both: the scale of such a row is
//! NaN, and with it everything that is made of the row.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod portable;

use std::ops::Range;

use crate::activations::{Activations, BLOCK};
use crate::aligned::Aligned;
#[cfg(target_arch = "x86_64")]
use crate::tier::Kind;

/// Columns that lie together: as int8 one cache line, and one row of a tile.
pub(crate) const LINE: usize = 64;

/// What is quantised at once: rows of this size stay in the L2 cache while all weights pass by.
const ROOM_BYTES: usize = 512 * 1024;
/// Narrow rows are not quantised more at once than this, an odd number of tiles.
const ROWS_MAX: usize = 31 * BLOCK;

/// How a multiplier wants a whole number `q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As int8.
    Signed,
    /// As `q + 128` in uint8.
    Raised,
    /// As int16.
    Wide,
    /// As int16 of up to [`FINE_MAX`], 32 columns to a line, as they are in blocks of bf16.
    #[cfg(target_arch = "x86_64")]
    Fine,
}

/// The largest size of a fine number: a row then has steps as fine as those of bf16 near its largest number, and 19 bits of a
/// sum are left to weights.
#[cfg(target_arch = "x86_64")]
pub(crate) const FINE_MAX: u32 = 4095;

impl Form {
    /// What the bits of an int8 are combined with by exclusive or.
    pub(crate) fn flip(self) -> u8 {
        match self {
            Self::Signed | Self::Wide => 0,
            #[cfg(target_arch = "x86_64")]
            Self::Fine => 0,
            Self::Raised => 0x80,
        }
    }

    /// Whether numbers are larger than those of eight bits.
    #[cfg(test)]
    fn is_fine(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Fine;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Bytes of [`LINE`] columns.
    pub(crate) fn line_bytes(self) -> usize {
        match self {
            Self::Signed | Self::Raised => LINE,
            Self::Wide => 2 * LINE,
            #[cfg(target_arch = "x86_64")]
            Self::Fine => 2 * LINE,
        }
    }
}

/// Quantised rows, in memory that is taken once.
///
/// ```text
///  blocks of 64 columns, each row of a block a line, `stride` lines from one block to the next
///   block 0: row 0, row 1, …, row n, slack        block 1: row 0, …
/// ```
/// The slack fills the last pair of tiles; what is in there is never used. Columns behind the last one meet weights that
/// are zero.
#[derive(Debug)]
pub(crate) struct Quantised {
    values: Aligned<u8>,
    scales: Aligned<f32>,
    stride: usize,
}

impl Quantised {
    /// Takes no memory before the first rows.
    pub(crate) fn new() -> Self {
        Self { values: Aligned::zeros(0), scales: Aligned::zeros(0), stride: 0 }
    }

    /// Makes room for rows of `width` and says how many fit at once. Memory is taken at the first call, and again only
    /// for rows of more than eight thousand columns.
    pub(crate) fn reserve(&mut self, width: usize, form: Form) -> usize {
        let row_bytes = width.div_ceil(LINE) * form.line_bytes();
        let room = ROOM_BYTES.max(row_bytes * BLOCK);
        if self.values.len() < room {
            self.values = Aligned::zeros(room);
            self.scales = Aligned::zeros(ROWS_MAX);
        }
        // An odd number of tiles, so that neighbouring blocks do not share the sets of the L1 cache.
        self.stride = (room / row_bytes / BLOCK - 1) / 2 * 2 * BLOCK + BLOCK;
        self.stride = self.stride.min(ROWS_MAX);
        self.stride
    }

    /// Quantises `rows` of `input`, for whose width there is room.
    pub(crate) fn fill(&mut self, input: &Activations, rows: Range<usize>, form: Form) {
        assert!(rows.len() <= self.stride && rows.end <= input.rows());
        assert!(input.width().div_ceil(LINE) * self.stride * form.line_bytes() <= self.values.len());
        let to = Lines { values: &mut self.values, scales: &mut self.scales, stride: self.stride, form };
        match (form, input.tier().kind()) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier proves that the CPU has AVX2, which all have that have AVX-512.
            (Form::Wide, Kind::Avx512) | (_, Kind::Avx2Int16 | Kind::Avx2) => unsafe {
                avx2::fill(input, rows, to);
            },
            #[cfg(target_arch = "x86_64")]
            (
                Form::Signed | Form::Raised | Form::Fine,
                Kind::AmxBf16 | Kind::Avx512Bf16 | Kind::Avx512Int16 | Kind::Avx512,
            ) => {
                // SAFETY: the tier proves that the CPU has AVX-512.
                unsafe { avx512::fill(input, rows, to) }
            }
            _ => portable::fill(input, rows, to),
        }
    }

    /// The lines, and how many there are from one block of columns to the next.
    pub(crate) fn lines(&self) -> (&[u8], usize) {
        (&self.values, self.stride)
    }

    /// The same of [`Form::Fine`].
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fine_lines(&self) -> (&[u16], usize) {
        let count = self.values.len() / size_of::<u16>();
        // SAFETY: the memory is aligned to cache lines, and any bytes are numbers.
        (unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), count) }, self.stride)
    }

    /// What a whole number of each row stands for.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// Where quantised rows go, the first to line 0.
#[derive(Debug)]
struct Lines<'a> {
    values: &'a mut [u8],
    scales: &'a mut [f32],
    stride: usize,
    form: Form,
}

impl Lines<'_> {
    fn line(&mut self, block: usize, row: usize) -> &mut [u8] {
        let bytes = self.form.line_bytes();
        &mut self.values[(block * self.stride + row) * bytes..][..bytes]
    }
}

/// The largest size of a whole number of eight bits.
const WHOLE_MAX: f32 = 127.0;

/// The scale of a row, and what its values are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) scale: f32,
    pub(crate) inverse: f32,
}

impl Scale {
    /// `bits` are those of the largest size in the row.
    pub(crate) fn of(bits: u32) -> Self {
        Self::within(WHOLE_MAX, bits)
    }

    /// The same for whole numbers of up to `whole_max`.
    pub(crate) fn within(whole_max: f32, bits: u32) -> Self {
        let max = f32::from_bits(bits);
        if !max.is_finite() {
            return Self { scale: f32::NAN, inverse: 0.0 };
        }
        // One over anything smaller may be infinite.
        if max < 1e-30 {
            Self { scale: 0.0, inverse: 0.0 }
        } else {
            Self { scale: max / whole_max, inverse: whole_max / max }
        }
    }

    /// The nearest whole number, ties to even, in -127 ..= 127 where `value` is at most the largest size.
    pub(crate) fn quantise(self, value: f32) -> i8 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 127 for what is a number, and zero for NaN"
        )]
        let whole = (value * self.inverse).round_ties_even() as i8;
        whole
    }
}

/// The bits of the size of `value`, which are in the order of the sizes.
pub(crate) fn size_bits(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// `values` quantised, then made floats again.
    fn there_and_back(input: &Activations, form: Form) -> Vec<f32> {
        let mut quantised = Quantised::new();
        quantised.reserve(input.width(), form);
        quantised.fill(input, 0..input.rows(), form);
        let (lines, stride) = quantised.lines();
        let places = (0..input.rows()).flat_map(|row| (0..input.width()).map(move |column| (row, column)));
        let value = |(row, column): (usize, usize)| {
            let columns = if form.is_fine() { BLOCK } else { LINE };
            let number = (column / columns * stride + row) * columns + column % columns;
            let bytes = &lines[number * form.line_bytes() / LINE..];
            let whole = match form.line_bytes() / LINE {
                1 => i16::from((bytes[0] ^ form.flip()).cast_signed()),
                _ => i16::from_le_bytes([bytes[0], bytes[1]]),
            };
            f32::from(whole) * quantised.scales()[row]
        };
        places.map(value).collect()
    }

    /// Those that a tier may be asked for.
    fn forms(tier: crate::Tier) -> Vec<Form> {
        let wide = ["avx512", "avx2-int16", "avx2"].contains(&tier.name()).then_some(Form::Wide);
        #[cfg(target_arch = "x86_64")]
        let fine = ["avx512-int16", "avx2-int16"].contains(&tier.name()).then_some(Form::Fine);
        #[cfg(not(target_arch = "x86_64"))]
        let fine = None;
        [Form::Signed, Form::Raised].into_iter().chain(wide).chain(fine).collect()
    }

    fn filled(tier: crate::Tier, values: &[f32], width: usize) -> Activations {
        let mut input = Activations::new(tier, values.len() / width, width);
        input.fill(values, width);
        input
    }

    #[test]
    fn room_is_for_an_odd_number_of_tiles_of_any_width() {
        let mut quantised = Quantised::new();
        for width in [1, 63, 64, 65, 384, 1536, 3072, 16_384, 20_000] {
            let rows = quantised.reserve(width, Form::Signed);
            assert_eq!(rows % 64, 32, "{width}");
            assert!(width.div_ceil(LINE) * rows * LINE <= quantised.values.len(), "{width}");
        }
        assert_eq!(quantised.reserve(1536, Form::Signed), 288);
        assert_eq!(quantised.reserve(1536, Form::Wide), 160);
    }

    proptest! {
        #[test]
        fn value_moves_by_at_most_half_a_step(
            values in prop::collection::vec(-1e3_f32..1e3, 1..400), width in 1_usize..150
        ) {
            let width = width.min(values.len());
            let values = &values[..values.len() / width * width];
            for tier in testing::tiers("value_moves_by_at_most_half_a_step") {
                let input = filled(tier, values, width);
                for form in forms(tier) {
                    let found = there_and_back(&input, form);
                    let given = input.to_rows();
                    for (found, given) in found.chunks_exact(width).zip(given.chunks_exact(width)) {
                        let max = given.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                        for (found, given) in found.iter().zip(given) {
                            let steps = if form.is_fine() { 4095.0 } else { 127.0 };
                            prop_assert!((found - given).abs() <= max * (0.501 / steps), "{found} is not {given}");
                        }
                    }
                }
            }
        }

        #[test]
        fn whole_numbers_are_the_same_in_every_tier(
            values in prop::collection::vec(-10_i8..10, 1..400), width in 1_usize..150
        ) {
            // Small whole numbers are exact in bf16, so that every tier is given the same.
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let width = width.min(values.len());
            let values = &values[..values.len() / width * width];
            let all = testing::tiers("whole_numbers_are_the_same_in_every_tier");
            let found: Vec<_> =
                all.iter().map(|tier| there_and_back(&filled(*tier, values, width), Form::Signed)).collect();
            prop_assert!(found.iter().all(|other| *other == found[0]));
        }
    }

    #[test]
    fn rows_of_zeros_stay_zero_and_broken_ones_break() {
        for tier in testing::tiers("rows_of_zeros_stay_zero_and_broken_ones_break") {
            for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let input = filled(tier, &[0.0, -0.0, 1e-38, 1.0, broken, 2.0, -3e38, 0.0, 3e38], 3);
                let found = there_and_back(&input, Form::Signed);
                assert_eq!(found[..3], [0.0; 3]);
                assert!(found[3..6].iter().all(|value| value.is_nan()), "{}: {found:?}", tier.name());
                assert!(found[6] < -2.9e38 && found[7] == 0.0 && found[8] > 2.9e38, "{found:?}");
            }
        }
    }
}

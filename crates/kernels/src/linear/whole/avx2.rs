//! The product in 256-bit registers: six rows by sixteen outputs are twelve registers of sums, two hold a pair of inputs of
//! the weights.
//!
//! An instruction multiplies pairs of sixteen bits and another adds the sums of each: twice as many numbers as in f32, in twice
//! as many instructions, of which half go to units that f32 leaves idle. With AVX-VNNI one instruction does both.

use std::arch::asm;
use std::arch::x86_64::*;

use super::WholeWeights;
use crate::activations::{Activations, BLOCK};
use crate::linear::bf16::Lines;
use crate::linear::{Share, fetch_ahead};
use crate::output::{Place, Sink, portable};
use crate::packed::{PackedLinear, TILE};
use crate::quantise::Form;
use crate::scratch::Scratch;
use crate::tier::has_avx_vnni;

/// Rows that are multiplied at once.
const ROWS: usize = 6;
/// Registers of a row.
const HALVES: usize = 2;
/// Numbers in a register.
const LANES: usize = 8;
/// Pairs of inputs between two jumps.
const PAIRS: usize = 4;
/// Outputs of a tile.
const OUTPUTS: usize = HALVES * LANES;

/// Rows whose sums are finished at once.
const ROWS_TOGETHER: usize = 96;
/// Steps of 32 inputs that all these rows are multiplied with before the next ones are read: their weights for sixteen
/// outputs stay in the L1 cache.
const STRETCH: usize = 16;

/// What is written of whole sums.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End<'a> {
    /// The nearest floats.
    Floats,
    /// These times the scale of the row, and that of each of 32 outputs.
    Scaled { rows: &'a [f32], outputs: &'a [f32] },
}

/// Computes a share of the product, its shapes checked by the caller.
///
/// # Safety
/// The CPU has AVX2 and FMA, and nobody else computes this share.
#[target_feature(enable = "avx2,fma")]
pub(in crate::linear) unsafe fn apply(
    linear: &PackedLinear,
    weights: &WholeWeights,
    input: &Activations,
    (sink, share): (Sink<'_>, Share),
    scratch: &mut Scratch,
) {
    let at_once = scratch.quantised.reserve(input.width(), Form::Fine);
    let panel_len = linear.inputs().div_ceil(BLOCK) * 2 * TILE;
    for first in share.rows.clone().step_by(at_once) {
        let quantised = first..share.rows.end.min(first + at_once);
        scratch.quantised.fill(input, quantised.clone(), Form::Fine);
        let Scratch { quantised: lines, sums, .. } = &mut *scratch;
        let (values, stride) = lines.fine_lines();
        for panel in share.panels.clone() {
            let panel_weights = &weights.values[panel * panel_len..][..panel_len];
            let outputs = &weights.scales[panel * BLOCK..][..BLOCK];
            for row in (0..quantised.len()).step_by(ROWS_TOGETHER) {
                let rows = ROWS_TOGETHER.min(quantised.len() - row);
                let left = Lines { values: &values[row * BLOCK..], stride, rows };
                let end = End::Scaled { rows: &lines.scales()[row..], outputs };
                let place = Place { row: first + row, rows, panel };
                // SAFETY: as the caller says.
                unsafe {
                    multiply(left, panel_weights, end, (sums, BLOCK));
                    portable::finish_avx2(sink, place, (sums, BLOCK), &linear.bias);
                }
            }
        }
    }
}

/// `left` times a panel, into `sums` `(rows, 32)` whose rows are as far apart as is said beside them. The numbers must be so
/// small that no sum of products runs over.
///
/// # Panics
/// If a slice is too short for the shape.
#[target_feature(enable = "avx2")]
pub(crate) fn multiply(left: Lines<'_>, panel: &[u16], end: End<'_>, sums: (&mut [f32], usize)) {
    // SAFETY: the CPU has what is chosen.
    unsafe {
        if has_avx_vnni() {
            multiply_with::<Vnni>(left, panel, end, sums);
        } else {
            multiply_with::<Avx2>(left, panel, end, sums);
        }
    }
}

/// # Safety
/// The CPU has the instructions of `M`.
#[target_feature(enable = "avx2")]
unsafe fn multiply_with<M: MultiplyAdd>(
    left: Lines<'_>,
    panel: &[u16],
    end: End<'_>,
    (sums, stride): (&mut [f32], usize),
) {
    let last = (panel.len() - 1) / (STRETCH * 2 * TILE);
    for tile in 0..BLOCK / OUTPUTS {
        for (stretch, panel) in panel.chunks(STRETCH * 2 * TILE).enumerate() {
            let left = Lines { values: &left.values[stretch * STRETCH * left.stride * BLOCK..], ..left };
            let part = Part { tile, is_first: stretch == 0, end: (stretch == last).then_some(end) };
            // SAFETY: as the caller says.
            unsafe { part.multiply::<M>(left, &panel[tile * TILE..], (&mut sums[tile * OUTPUTS..], stride)) };
        }
    }
}

/// A stretch of the inputs of some rows, and sixteen outputs.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    /// The number of these among the outputs of the panel.
    tile: usize,
    /// Whether sums begin here, not with those of the stretch before.
    is_first: bool,
    /// What is written where they end.
    end: Option<End<'a>>,
}

impl Part<'_> {
    /// # Panics
    /// If a slice is too short for the shape.
    ///
    /// # Safety
    /// The CPU has the instructions of `M`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply<M: MultiplyAdd>(
        self,
        left: Lines<'_>,
        panel: &[u16],
        (sums, stride): (&mut [f32], usize),
    ) {
        let steps = panel.len().div_ceil(2 * TILE);
        assert!(((steps - 1) * left.stride + left.rows) * BLOCK <= left.values.len());
        assert!((steps - 1) * 2 * TILE + TILE <= panel.len());
        assert!((left.rows - 1) * stride + OUTPUTS <= sums.len());
        if let Some(End::Scaled { rows, outputs }) = self.end {
            assert!(left.rows <= rows.len() && outputs.len() == BLOCK);
        }
        let mut row = 0;
        while row < left.rows {
            let from = left.values[row * BLOCK..].as_ptr();
            let to = sums[row * stride..].as_mut_ptr();
            let strides = [left.stride * BLOCK, stride];
            // SAFETY: as the caller says; as many rows are left as each kernel is for, and the shapes are checked above.
            row += unsafe {
                match left.rows - row {
                    ROWS.. if row == 0 => self.rows::<M, ROWS, true>(from, panel, to, strides, row),
                    ROWS.. => self.rows::<M, ROWS, false>(from, panel, to, strides, row),
                    4.. => self.rows::<M, 4, true>(from, panel, to, strides, row),
                    2.. => self.rows::<M, 2, true>(from, panel, to, strides, row),
                    _ => self.rows::<M, 1, true>(from, panel, to, strides, row),
                }
            };
        }
    }

    /// `R` rows at once, from `row` on; says how many that were. The `FIRST` ones fetch weights ahead.
    ///
    /// # Safety
    /// The CPU has the instructions of `M`. `R` lines lie at `left` for each step of the panel, `strides[0]` numbers from step to step; `sums` has room for `R` rows
    /// of 16, `strides[1]` apart; there are scales of these rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn rows<M: MultiplyAdd, const R: usize, const FIRST: bool>(
        self,
        left: *const u16,
        panel: &[u16],
        sums: *mut f32,
        strides: [usize; 2],
        row: usize,
    ) -> usize {
        let mut acc = [[_mm256_setzero_si256(); HALVES]; R];
        if !self.is_first {
            for (row, acc) in acc.iter_mut().enumerate() {
                // SAFETY: there are sums of this row.
                *acc = unsafe { [0, LANES].map(|half| load(sums.add(row * strides[1] + half).cast())) };
            }
        }
        for (step, tile) in panel.chunks(2 * TILE).enumerate() {
            let left = left.wrapping_add(step * strides[0]);
            for pair in (0..BLOCK / 2).step_by(PAIRS) {
                // SAFETY: a tile has sixteen lines of 64 bytes; a row has a pair for each line.
                unsafe {
                    let weights = tile.as_ptr().add(pair * BLOCK);
                    if FIRST {
                        (0..PAIRS).for_each(|pair| fetch_ahead(weights.add(pair * BLOCK)));
                    }
                    M::pairs(&mut acc, left.add(2 * pair), weights);
                }
            }
        }
        for (index, acc) in acc.into_iter().enumerate() {
            // SAFETY: there is room for this row, which has a scale.
            unsafe { self.write(acc, row + index, sums.add(index * strides[1])) };
        }
        R
    }

    /// Writes the sums of `row`.
    ///
    /// # Safety
    /// There is room for sixteen at `to`, and a scale of the row and of 32 outputs where those are asked for.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn write(self, sums: [__m256i; HALVES], row: usize, to: *mut f32) {
        for (half, sums) in sums.into_iter().enumerate() {
            let written = match self.end {
                None => _mm256_castsi256_ps(sums),
                Some(End::Floats) => _mm256_cvtepi32_ps(sums),
                Some(End::Scaled { rows, outputs }) => {
                    // SAFETY: as the caller says.
                    let (row, outputs) = unsafe {
                        let first = self.tile * OUTPUTS + half * LANES;
                        (*rows.get_unchecked(row), _mm256_loadu_ps(outputs.as_ptr().add(first)))
                    };
                    _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_mul_ps(outputs, _mm256_set1_ps(row)))
                }
            };
            // SAFETY: as the caller says.
            unsafe { _mm256_storeu_ps(to.add(half * LANES), written) };
        }
    }
}

/// The instructions that multiply pairs and add up.
trait MultiplyAdd {
    /// Adds the products of [`PAIRS`] pairs of inputs to the sums of `R` rows.
    ///
    /// # Safety
    /// The CPU has them. At `left` lie as many pairs of each row, a line from row to row; at `weights` as many lines.
    unsafe fn pairs<const R: usize>(acc: &mut [[__m256i; HALVES]; R], left: *const u16, weights: *const u16);
}

/// Those of AVX2.
struct Avx2;

/// That of AVX-VNNI.
struct Vnni;

impl MultiplyAdd for Avx2 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pairs<const R: usize>(acc: &mut [[__m256i; HALVES]; R], left: *const u16, weights: *const u16) {
        // SAFETY: as the caller says.
        unsafe {
            if let [a, b, c, d, e, f] = acc.as_mut_slice() {
                return multiply_pairs_of_six([a, b, c, d, e, f], left, weights);
            }
            for pair in 0..PAIRS {
                let weights = weights.add(pair * BLOCK);
                let weights = [load(weights), load(weights.add(2 * LANES))];
                for (row, acc) in acc.iter_mut().enumerate() {
                    let pair = left.add(row * BLOCK + 2 * pair).cast::<i32>().read_unaligned();
                    let pair = _mm256_set1_epi32(pair);
                    for (acc, weights) in acc.iter_mut().zip(weights) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(weights, pair));
                    }
                }
            }
        }
    }
}

impl MultiplyAdd for Vnni {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pairs<const R: usize>(acc: &mut [[__m256i; HALVES]; R], left: *const u16, weights: *const u16) {
        // SAFETY: as the caller says.
        unsafe {
            for pair in 0..PAIRS {
                let weights = weights.add(pair * BLOCK);
                let weights = [load(weights), load(weights.add(2 * LANES))];
                for (row, acc) in acc.iter_mut().enumerate() {
                    let pair = left.add(row * BLOCK + 2 * pair).cast::<i32>().read_unaligned();
                    multiply_pair_by_vnni(acc, _mm256_set1_epi32(pair), weights);
                }
            }
        }
    }
}

/// Adds the products of one pair of a row to its sums. An intrinsic would bind all that this is part of to CPUs with AVX-VNNI.
///
/// # Safety
/// The CPU has AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply_pair_by_vnni(
    [low, high]: &mut [__m256i; HALVES],
    pair: __m256i,
    weights: [__m256i; HALVES],
) {
    // SAFETY: as the caller says; no register is changed but those that are named.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {low}, {pair}, {weights_low}",
            "{{vex}} vpdpwssd {high}, {pair}, {weights_high}",
            pair = in(ymm_reg) pair, low = inout(ymm_reg) *low, high = inout(ymm_reg) *high,
            weights_low = in(ymm_reg) weights[0], weights_high = in(ymm_reg) weights[1],
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// One row's products of one pair: `low` and `high` are its sums.
macro_rules! row_of_pair {
    ($pair:literal, $row:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd {pair}, [{left} + ",
            $row,
            "*64 + ",
            $pair,
            "*4]\n",
            "vpmaddwd {product}, {pair}, {weights_low}\n",
            "vpaddd {",
            $low,
            "}, {",
            $low,
            "}, {product}\n",
            "vpmaddwd {pair}, {pair}, {weights_high}\n",
            "vpaddd {",
            $high,
            "}, {",
            $high,
            "}, {pair}\n",
        )
    };
}

/// Six rows' products of one pair.
macro_rules! pair {
    ($pair:literal) => {
        concat!(
            "vmovdqu {weights_low}, [{weights} + ",
            $pair,
            "*64]\n",
            "vmovdqu {weights_high}, [{weights} + ",
            $pair,
            "*64 + 32]\n",
            row_of_pair!($pair, "0", "a0", "a1"),
            row_of_pair!($pair, "1", "b0", "b1"),
            row_of_pair!($pair, "2", "c0", "c1"),
            row_of_pair!($pair, "3", "d0", "d1"),
            row_of_pair!($pair, "4", "e0", "e1"),
            row_of_pair!($pair, "5", "f0", "f1"),
        )
    };
}

/// The same of six rows, whose sums and operands are all sixteen registers. The compiler would load operands of the next pair
/// early and have to keep sums in memory.
///
/// # Safety
/// As of [`MultiplyAdd::pairs`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply_pairs_of_six(
    [[a0, a1], [b0, b1], [c0, c1], [d0, d1], [e0, e1], [f0, f1]]: [&mut [__m256i; HALVES]; ROWS],
    left: *const u16,
    weights: *const u16,
) {
    // SAFETY: what is read is there, as the caller says; no register is changed but those that are named.
    unsafe {
        asm!(
            pair!("0"), pair!("1"), pair!("2"), pair!("3"),
            left = in(reg) left, weights = in(reg) weights,
            weights_low = out(ymm_reg) _, weights_high = out(ymm_reg) _, pair = out(ymm_reg) _, product = out(ymm_reg) _,
            a0 = inout(ymm_reg) *a0, a1 = inout(ymm_reg) *a1, b0 = inout(ymm_reg) *b0, b1 = inout(ymm_reg) *b1,
            c0 = inout(ymm_reg) *c0, c1 = inout(ymm_reg) *c1, d0 = inout(ymm_reg) *d0, d1 = inout(ymm_reg) *d1,
            e0 = inout(ymm_reg) *e0, e1 = inout(ymm_reg) *e1, f0 = inout(ymm_reg) *f0, f1 = inout(ymm_reg) *f1,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}

/// # Safety
/// 32 bytes lie at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u16) -> __m256i {
    // SAFETY: as the caller says.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::tier::Int8Kind;

    /// Rows and a panel of numbers without a pattern, which all but fill the bits of sums.
    struct Case {
        rows: usize,
        steps: usize,
        values: Vec<u16>,
        panel: Vec<u16>,
    }

    impl Case {
        fn new(rows: usize, steps: usize) -> Self {
            let numbers = |count: usize, max: usize| {
                let number = |place: usize| (place * 7919 % (2 * max + 1)) as i64 - max as i64;
                (0..count).map(|place| i16::try_from(number(place)).unwrap().cast_unsigned()).collect()
            };
            let (values, panel) =
                (numbers(steps * rows * BLOCK, 4095), numbers(steps * 2 * TILE, 16_000 / steps));
            Self { rows, steps, values, panel }
        }

        /// # Safety
        /// The CPU has the instructions of `M`.
        unsafe fn sums<M: MultiplyAdd>(&self) -> Vec<f32> {
            let mut sums = vec![f32::NAN; self.rows * BLOCK];
            let left = Lines { values: &self.values, stride: self.rows, rows: self.rows };
            // SAFETY: as the caller says.
            unsafe { multiply_with::<M>(left, &self.panel, End::Floats, (&mut sums, BLOCK)) };
            sums
        }

        fn expected(&self) -> Vec<f32> {
            let places = (0..self.rows).flat_map(|row| (0..BLOCK).map(move |output| (row, output)));
            places.map(|(row, output)| self.sum(row, output) as f32).collect()
        }

        fn sum(&self, row: usize, output: usize) -> i32 {
            let inputs = (0..self.steps * BLOCK).map(|input| (input / BLOCK, input % BLOCK));
            let product = |(step, input): (usize, usize)| {
                let tile = (2 * step + output / OUTPUTS) * TILE;
                let weight = self.panel[tile + input / 2 * BLOCK + output % OUTPUTS * 2 + input % 2];
                let value = self.values[(step * self.rows + row) * BLOCK + input];
                i32::from(value.cast_signed()) * i32::from(weight.cast_signed())
            };
            inputs.map(product).sum()
        }
    }

    #[test]
    fn sums_are_those_of_plain_rust_by_either_instruction() {
        let test = "sums_are_those_of_plain_rust_by_either_instruction";
        if !testing::has_avx2(test) {
            return;
        }
        let has_vnni = testing::int8_kinds(test).contains(&Int8Kind::AvxVnni);
        for (rows, steps) in [(1, 1), (2, 3), (5, 1), (6, 2), (13, 40)] {
            let case = Case::new(rows, steps);
            let expected = case.expected();
            // SAFETY: the CPU has AVX2.
            assert_eq!(unsafe { case.sums::<Avx2>() }, expected, "{rows} rows, {steps} steps");
            if has_vnni {
                // SAFETY: it has AVX-VNNI.
                assert_eq!(unsafe { case.sums::<Vnni>() }, expected, "{rows} rows, {steps} steps");
            }
        }
    }
}
